"""What each gate of a cell does, read off the operations of its step.

A cell names its gates, but not what becomes of them: `i` of an LSTM goes through σ and opens or
shuts, `g` goes through tanh and is what is let in. Both are found by following a gate's
pre-activation through the recorded step to the first σ, tanh or ReLU that it reaches.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.errors import UntraceableCellError
from recurra.reference import Tensors

_ACTIVATIONS = ("sigmoid", "tanh", "relu")


@dataclass(frozen=True)
class GateKind:
    """What becomes of one gate's pre-activation.

    Attributes:
        name: as in `Cell.gates`.
        kind: "gate": it passes through σ, and multiplies; "candidate": what is let in, or the new
            state itself.
        activation: "sigmoid", "tanh", "relu", or "" for none: the pre-activation itself.
    """

    name: str
    kind: str
    activation: str


def gate_kinds(cell: Cell) -> tuple[GateKind, ...]:
    """What each gate of a cell does.

    Raises:
        UntraceableCellError: the step cannot be recorded.

    Example:
        >>> from recurra.cells import GRU_CELL
        >>> [(g.name, g.kind) for g in gate_kinds(GRU_CELL)]
        [('r', 'gate'), ('z', 'gate'), ('n', 'candidate')]
    """
    row = torch.zeros(2, 3)
    hidden = (row,) * len(cell.gates) if cell.recurrent else ()
    states, vectors = (row,) * len(cell.states), (row[0],) * len(cell.vectors)
    gates = (row,) * len(cell.gates)
    found = _record(cell, cell.advance, gates, hidden, states, vectors).kinds
    if cell.late_operand is not None:
        early = hidden[: len(cell.gates) - len(cell.late_gates)]
        first = _record(cell, _as_step(cell), gates, early, states).kinds
        found = {**first, **found}
    return tuple(found[name] for name in cell.gates)


def recording_cell(cell: Cell, seen: list[dict[str, Tensor]]) -> Cell:
    """The same cell, whose every step appends the values of its gates to a list.

    What is appended is a gate's value after its activation, (batch, hidden), by its name. Without
    an activation it is the pre-activation, from_input + from_hidden.

    Example:
        >>> from recurra.cells import LSTM_CELL
        >>> seen: list = []
        >>> zeros = (torch.zeros(1, 2),) * 4
        >>> _ = recording_cell(LSTM_CELL, seen).step(zeros, zeros, zeros[:2])
        >>> {name: float(value[0, 0]) for name, value in seen[0].items()}
        {'i': 0.5, 'f': 0.5, 'g': 0.0, 'o': 0.5}
    """
    recorded: dict[Any, _Record] = {}
    early: dict[str, Tensor] = {}

    def call(name: str, function: Callable[..., Any], *groups: Tensors) -> tuple[Tensors, Any]:
        key = (name, groups[0][0].shape, groups[0][0].dtype)
        if key not in recorded:
            recorded[key] = _record(cell, function, *groups)
        record = recorded[key]
        results = tuple(record.module(*(t for group in groups for t in group)))
        count = len(results) - len(record.kinds)
        return results[:count], dict(zip(record.kinds, results[count:], strict=True))

    def step(
        from_input: Tensors, from_hidden: Tensors, state: Tensors, vectors: Tensors = ()
    ) -> Tensors:
        new, gates = call("step", cell.advance, from_input, from_hidden, state, vectors)
        gates = {**early, **gates}
        seen.append({name: gates[name] for name in cell.gates})
        return new

    def late_operand(from_input: Tensors, from_hidden: Tensors, state: Tensors) -> Tensor:
        (operand,), gates = call("operand", _as_step(cell), from_input, from_hidden, state)
        early.update(gates)
        return operand

    return replace(cell, step=step, late_operand=late_operand if cell.late_operand else None)


@dataclass(frozen=True)
class _Record:
    """A recorded function: `module` gives its results, then the gates named in `kinds`."""

    module: Callable[..., Any]
    kinds: dict[str, GateKind]


def _as_step(cell: Cell) -> Callable[..., Tensors]:
    """A cell's `late_operand` as a function with one result in a tuple."""
    operand = cell.late_operand
    assert operand is not None
    return lambda from_input, from_hidden, state, _=(): (operand(from_input, from_hidden, state),)


def _record(
    cell: Cell,
    function: Callable[..., Tensors],
    from_input: Tensors,
    from_hidden: Tensors,
    state: Tensors,
    vectors: Tensors = (),
) -> _Record:
    """Record for these shapes: a step may turn a size into a number."""
    from torch.fx.experimental.proxy_tensor import make_fx

    gates, hidden, states = len(from_input), len(from_hidden), len(state)

    def flat(*tensors: Tensor) -> Tensors:
        rest = tensors[gates + hidden :]
        blocks = tensors[gates : gates + hidden]
        return function(tensors[:gates], blocks, rest[:states], rest[states:])

    examples = [t.detach() for t in (*from_input, *from_hidden, *state, *vectors)]
    try:
        module = make_fx(flat)(*examples)
    except Exception as error:  # torch raises many kinds
        raise UntraceableCellError(
            f"cell {cell.name!r}: its step cannot be recorded: {error}"
        ) from error
    graph = module.graph
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    output = next(node for node in graph.nodes if node.op == "output")
    kinds, nodes = {}, []
    for k, name in enumerate(cell.gates):
        if not inputs[k].users:  # this gate acts elsewhere
            continue
        node, activation = _first_activation(graph, inputs[k])
        is_state = node in output.args[0]
        kind = "gate" if activation == "sigmoid" and not is_state else "candidate"
        if node is None:
            with graph.inserting_before(output):
                node = _sum(graph, [inputs[k], *inputs[gates + k : gates + hidden][:1]])
        nodes.append(node)
        kinds[name] = GateKind(name, kind, activation)
    output.args = ([*output.args[0], *nodes],)
    module.recompile()
    return _Record(module, kinds)


def _sum(graph: Any, nodes: list[Any]) -> Any:
    if len(nodes) == 1:
        return nodes[0]
    return graph.call_function(torch.ops.aten.add.Tensor, tuple(nodes))


def _first_activation(graph: Any, start: Any) -> tuple[Any, str]:
    reached = {start}
    for node in graph.nodes:
        if node.op == "call_function" and reached.intersection(node.all_input_nodes):
            name = str(node.target).split(".")[1]
            if name in _ACTIVATIONS:
                return node, name
            reached.add(node)
    return None, ""
