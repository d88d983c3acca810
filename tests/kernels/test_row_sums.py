"""Sums over rows: how they are simplified, in how many passes the rest is done, what is kept."""

from collections.abc import Callable

import pytest
import torch

from recurra.cells import CELLS, Cell
from recurra.kernels.cpu.pointwise import Passes
from recurra.kernels.graph import Graph
from recurra.kernels.plan import Options, Plan, Pointwise
from recurra.kernels.planner import plan_for
from recurra.testing import errors_against_float64

A, B = torch.randn(2, 4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _total(a: torch.Tensor) -> torch.Tensor:
    return a.sum(-1, keepdim=True)


def _mean(graph: Graph, node: int) -> int:
    share = graph.add("div", graph.constant(1.0), graph.size())
    return graph.add("mul", graph.add("row_sum", node), share)


def _centred(graph: Graph, node: int) -> int:
    return graph.add("sub", node, _mean(graph, node))


def _multiple(graph: Graph, of: int, by: int) -> int:
    return graph.add("mul", graph.add("row_sum", by), of)


# what is built on the nodes a and b, and the same in plain PyTorch
SUMS: dict[str, tuple[Callable[[Graph, int, int], int], torch.Tensor]] = {
    "of a multiple": (lambda g, a, b: _multiple(g, a, b), _total(_total(B) * A)),
    "of a negative": (lambda g, a, b: g.add("neg", a), -_total(A)),
    "of what is centred": (lambda g, a, b: _centred(g, a), torch.zeros(4, 1)),
    "with what is centred": (
        lambda g, a, b: g.add("sub", _multiple(g, _centred(g, a), b), a),
        -_total(A),
    ),
    "less another's mean": (
        lambda g, a, b: g.add("sub", a, _mean(g, b)),
        _total(A - B.mean(-1, keepdim=True)),
    ),
    "with a term twice": (
        lambda g, a, b: g.add("add", g.add("add", a, _multiple(g, b, a)), _multiple(g, b, a)),
        _total(A + 2 * _total(A) * B),
    ),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_simplified_sum_is_the_sum(name: str) -> None:
    build, expected = SUMS[name]
    graph = Graph()
    total = graph.add("row_sum", build(graph, graph.input("a"), graph.input("b")))
    (found,) = graph.evaluate([total], {"a": A, "b": B}, A.shape[-1])
    torch.testing.assert_close(found.expand(4, 1).double(), expected.double())


def _plan(cell: Cell) -> Plan:
    return plan_for(cell, Options((False,) * len(cell.states), needs_gradient=True))


def _normalise_alone(
    from_input: tuple[torch.Tensor, ...],
    from_hidden: tuple[torch.Tensor, ...],
    state: tuple[torch.Tensor, ...],
) -> tuple[torch.Tensor, ...]:
    centred = from_input[0] - from_input[0].mean(-1, keepdim=True)
    scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
    return (torch.tanh(centred * scale + from_hidden[0]) + state[0],)


NORMALISED = Cell("normalised", gates=("a",), states=("h",), step=_normalise_alone)


def test_the_gradient_of_a_normalised_row_needs_one_pass_before_the_last() -> None:
    plan = _plan(NORMALISED)
    (phase,) = (p for p in plan.backward if isinstance(p, Pointwise) and p.is_row_wise)
    passes = Passes(plan.graph, phase)
    assert passes.last == 1
    assert len(passes.reductions(0)) == 2


def test_a_normalised_row_is_kept_as_its_distance_from_the_mean() -> None:
    plan = _plan(NORMALISED)
    (phase,) = (p for p in plan.backward if isinstance(p, Pointwise) and p.is_row_wise)
    loads = {place.buffer: node for node, (place,) in phase.loads.items() if place.block == 0}
    assert plan.saved_numbers == 1  # 1 / its deviation, and no mean
    assert plan.graph.nodes[loads["gates"]].op == "sub"


@pytest.mark.parametrize("name", ["lstm_layer_norm", "gru_layer_norm"])
def test_what_the_forward_pass_of_layer_normalisation_puts_by_is_stored_once(name: str) -> None:
    plan = _plan(CELLS[name])
    (phase,) = (p for p in plan.forward if isinstance(p, Pointwise))
    passes = Passes(plan.graph, phase)
    assert passes.placed
    assert not passes.scratch


def _attend(
    from_input: tuple[torch.Tensor, ...],
    from_hidden: tuple[torch.Tensor, ...],
    state: tuple[torch.Tensor, ...],
) -> tuple[torch.Tensor, ...]:
    """A softmax over what a row remembers: a largest number, then a sum of what that goes into."""
    _, c = state
    c = torch.sigmoid(from_input[0] + from_hidden[0]) * c + torch.tanh(from_input[1])
    powers = torch.exp(c - c.amax(-1, keepdim=True))
    share = powers / powers.sum(-1, keepdim=True)
    return share * from_hidden[1] + c, c


ATTENTIVE = Cell("attentive", gates=("f", "g"), states=("h", "c"), step=_attend)


@pytest.mark.kernels
@pytest.mark.parametrize("controls", ["plain", "lengths", "reset", "masks"])
@pytest.mark.parametrize("cell", [NORMALISED, ATTENTIVE], ids=lambda cell: cell.name)
@pytest.mark.parametrize(("batch", "hidden"), [(5, 37), (18, 16), (1, 21)])
def test_cells_of_ones_own_that_sum_over_rows_are_exact(
    cell: Cell, controls: str, batch: int, hidden: int
) -> None:
    torch.manual_seed(batch)
    errors = errors_against_float64(
        cell,
        backend="cpu",
        controls=controls,
        time=6,
        batch=batch,
        input_size=4,
        hidden_size=hidden,
    )
    wrong = [error for error in errors if not error.is_ok]
    assert not wrong, wrong
