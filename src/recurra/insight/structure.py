"""What a recurrence is made of, and what it costs: counted exactly, or measured on this machine.

With G gates, H hidden units and I inputs, one layer in one direction has G·H·(I + H) weights and
2·G·H biases (torch.nn's two of each), and one step multiplies and adds once for every weight. So
at equal sizes a GRU (G = 3) has exactly 3/4 of an LSTM's (G = 4) weights, biases and work, and an
Elman network 1/4.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.errors import ArgumentError, UntraceableCellError
from recurra.insight.step_reading import GateKind, gate_kinds
from recurra.kernels.planner import plan_for
from recurra.kernels.scan import kept_shapes, options_for
from recurra.layers import Recurrent
from recurra.reference import Controls, Parameters, scan


@dataclass(frozen=True)
class Structure:
    """The counts of a stack of recurrent layers.

    Attributes:
        cell: its name.
        input_size, hidden_size, num_layers, directions: of the stack.
        gates: what each block of rows does; see `GateKind`.
        weights: shape of every parameter, by its name in the layer.
        states: shape of each last state for one row, (layers·directions, 1, size), by its name.
        output: shape of the output for one step of one row, (1, 1, directions·size).
        parameters: how many numbers are trained.
        matrix_weights: those of them in matrices, that is, without biases and vectors.
        multiply_adds_per_step: of the products, for one step of one row; pointwise work not
            counted, which is of the order of gates·hidden.
        saved_bytes_per_step: memory that training keeps for the backward pass, for one step of one
            row in float32, by our kernels: the layers' inputs, all states, and what the plan of
            the kernel keeps. None for a cell without kernels.
        autograd_bytes_per_step: the same of a loop in plain PyTorch; measured.
    """

    cell: str
    input_size: int
    hidden_size: int
    num_layers: int
    directions: int
    gates: tuple[GateKind, ...]
    weights: dict[str, tuple[int, ...]]
    states: dict[str, tuple[int, ...]]
    output: tuple[int, ...]
    parameters: int
    matrix_weights: int
    multiply_adds_per_step: int
    saved_bytes_per_step: int | None
    autograd_bytes_per_step: int

    def ratio(self, other: "Structure") -> Fraction:
        """This one's matrix weights over the other's, as an exact fraction."""
        return Fraction(self.matrix_weights, other.matrix_weights)


def structure(
    cell: Cell,
    input_size: int,
    hidden_size: int,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    proj_size: int = 0,
) -> Structure:
    """Count a stack of recurrent layers.

    Args:
        cell: any cell.
        input_size, hidden_size, num_layers, bidirectional, proj_size: as of `recurra.Recurrent`.

    Raises:
        ArgumentError: a size under 1.

    Example:
        >>> from recurra.cells import ELMAN_CELL, GRU_CELL, LSTM_CELL
        >>> weather = structure(ELMAN_CELL, 5, 8)
        >>> weather.weights["weight_ih_l0"], weather.weights["weight_hh_l0"]
        ((8, 5), (8, 8))
        >>> structure(GRU_CELL, 5, 8).ratio(structure(LSTM_CELL, 5, 8))
        Fraction(3, 4)
    """
    layer = Recurrent(
        cell, input_size, hidden_size, num_layers, bidirectional=bidirectional, proj_size=proj_size
    )
    y, last = layer(torch.zeros(1, 1, input_size))
    states = (last,) if isinstance(last, Tensor) else tuple(last)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    matrices = sum(p.numel() for p in layer.parameters() if p.dim() == 2)
    return Structure(
        cell=cell.name,
        input_size=input_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        directions=layer.num_directions,
        gates=gate_kinds(cell),
        weights=shapes,
        states={n: tuple(s.shape) for n, s in zip(cell.states, states, strict=True)},
        output=tuple(y.shape),
        parameters=sum(p.numel() for p in layer.parameters()),
        matrix_weights=matrices,
        multiply_adds_per_step=matrices,
        saved_bytes_per_step=_saved_by_kernels(layer),
        autograd_bytes_per_step=_saved_by_autograd(layer),
    )


def _saved_by_kernels(layer: Recurrent) -> int | None:
    """Bytes a step and row; the states before the first step are not counted."""
    cell, total = layer.cell, 4 * layer.input_size
    try:
        plan = plan_for(cell, options_for(cell, Controls(), all_states=False, needs_gradient=True))
    except UntraceableCellError:
        return None
    sizes = zip(layer.hidden_sizes, layer.output_sizes, strict=True)
    for k, (hidden, output) in enumerate(sizes):
        two, one = (kept_shapes(plan, time, 1, hidden, output) for time in (2, 1))
        total += 4 * layer.num_directions * (_numbers(two) - _numbers(one))
        if k and layer.bidirectional:  # else it is the memory of the layer below
            total += 4 * layer.input_sizes[k]
    return total


def _numbers(shapes: Sequence[tuple[int, int]]) -> int:
    return sum(rows * columns for rows, columns in shapes)


def _saved_by_autograd(layer: Recurrent) -> int:
    """The same for the reference: distinct memory that its saved tensors hold, without weights."""
    weights = {p.untyped_storage().data_ptr() for p in layer.parameters()}

    def kept(steps: int) -> int:
        found: dict[int, Tensor] = {}  # holds the tensors, so that no address is used twice

        def pack(t: Tensor) -> Tensor:
            found.setdefault(t.untyped_storage().data_ptr(), t)
            return t

        x = torch.zeros(steps, 1, layer.input_size)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            _by_reference(layer, x)
        return sum(
            t.untyped_storage().nbytes() for address, t in found.items() if address not in weights
        )

    return (kept(12) - kept(4)) // 8


def _by_reference(layer: Recurrent, x: Tensor) -> Tensor:
    """The layer's output for (time, 1, input) by the plain loop."""
    state = layer.initial_state(x.shape[1])
    for k in range(layer.num_layers):
        outputs = []
        for direction in range(layer.num_directions):
            own = state.layers[k * layer.num_directions + direction]
            controls = Controls(is_reverse=direction == 1)
            outputs.append(scan(layer.cell, x, own, _weights(layer, k, direction), controls)[0][0])
        x = torch.cat(outputs, -1)
    return x


def _weights(layer: Recurrent, k: int, direction: int) -> Parameters:
    return layer._weights(k, direction)


def equal_hidden_size(cell: Cell, input_size: int, weights: int) -> int:
    """The hidden size at which one layer of a cell has about that many weights; at least 1.

    Args:
        cell: any cell.
        input_size: features of a step.
        weights: matrix weights to come as close to as can be.

    Example:
        >>> from recurra.cells import GRU_CELL, LSTM_CELL
        >>> (
        ...     equal_hidden_size(LSTM_CELL, 16, 4 * 32 * (16 + 32)),
        ...     equal_hidden_size(GRU_CELL, 16, 4 * 32 * (16 + 32)),
        ... )
        (32, 38)
    """
    if input_size < 1 or weights < 1:
        raise ArgumentError(f"input_size={input_size} and weights={weights} must be at least 1")

    def count(hidden: int) -> int:
        recurrent = len(cell.gates) * hidden if cell.recurrent else 0
        projected = hidden if cell.output is not None else 0
        return hidden * (len(cell.gates) * input_size + recurrent + projected)

    high = 1
    while count(high) < weights:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < weights else (low, middle)
    return min((h for h in (low, high) if h), key=lambda h: abs(count(h) - weights))


@dataclass(frozen=True)
class Times:
    """Medians on this machine, one thread, float32.

    Attributes:
        step_us: one step of a stream of one row, microseconds.
        forward_ms: a whole batch without gradients, milliseconds.
        training_ms: the same with all gradients.
        shape: (time, batch) of that batch.
        backend: what ran it.
    """

    step_us: float
    forward_ms: float
    training_ms: float
    shape: tuple[int, int]
    backend: str


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: small layers gain nothing from a second, and lose on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def measure_times(
    layer: Recurrent, *, steps: int = 35, batch: int = 20, seconds: float = 0.2
) -> Times:
    """Run a layer and take the medians.

    Args:
        layer: any; a bidirectional one has no stream, and its `step_us` is NaN.
        steps, batch: of the batch.
        seconds: spent on each of the three.

    Raises:
        ArgumentError: a size under 1.
    """
    if steps < 1 or batch < 1 or seconds <= 0:
        raise ArgumentError(f"time={steps}, batch={batch} and seconds={seconds} must be above 0")
    x, row = torch.randn(steps, batch, layer.input_size), torch.randn(1, layer.input_size)
    state = layer.initial_state(1)

    def train() -> None:
        layer(x)[0].sum().backward()

    with one_thread():
        with torch.no_grad():
            step = float("nan")
            if not layer.bidirectional:
                step = 1e6 * _median(lambda: layer.step(row, state), seconds)
            forward = 1e3 * _median(lambda: layer(x), seconds)
        training = 1e3 * _median(train, seconds)
    return Times(step, forward, training, (steps, batch), layer.explain(x).chosen)


def _median(call: Callable[[], Any], seconds: float) -> float:
    for _ in range(2):
        call()
    taken: list[float] = []
    end_s = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start_s)
    return statistics.median(taken)


@dataclass(frozen=True)
class Check:
    """A statement about a live layer, with the largest difference that was found.

    Attributes:
        statement: what should be equal.
        error: largest absolute difference.
        is_true: whether it is within float32's rounding, 1e-5.
    """

    statement: str
    error: float

    @property
    def is_true(self) -> bool:
        return self.error <= 1e-5


def check_layout(
    cell: Cell, input_size: int, hidden_size: int, *, num_layers: int = 2
) -> list[Check]:
    """Run live tensors through both directions and both layouts, and compare.

    Args:
        cell: any cell.
        input_size, hidden_size, num_layers: of the layers made.

    Returns:
        checks of the two directions' concatenation (the second is a run over the reversed
        sequence, turned round), of `batch_first`, and of layers × directions in the last state.

    Example:
        >>> from recurra.cells import GRU_CELL
        >>> all(check.is_true for check in check_layout(GRU_CELL, 5, 8))
        True
    """
    x = torch.randn(7, 3, input_size)
    both = Recurrent(cell, input_size, hidden_size, bidirectional=True)
    alone = [Recurrent(cell, input_size, hidden_size) for _ in range(2)]
    for layer, ending in zip(alone, ("", "_reverse"), strict=True):
        for name, p in layer.named_parameters():
            p.data.copy_(both.get_parameter(name + ending))
    stack = Recurrent(cell, input_size, hidden_size, num_layers, bidirectional=True)
    turned = Recurrent(
        cell, input_size, hidden_size, num_layers, bidirectional=True, batch_first=True
    )
    turned.load_state_dict(stack.state_dict())
    with torch.no_grad():
        y, h = both(x)[0], both.output_sizes[0]
        forward, backward = alone[0](x)[0], alone[1](x.flip(0))[0].flip(0)
        deep, last = stack(x)
        last = last if isinstance(last, Tensor) else last[0]
        across = turned(x.transpose(0, 1))[0].transpose(0, 1)
    ends = torch.stack((deep[-1, :, :h], deep[0, :, h:]))
    return [
        Check(f"output[…, :{h}] is the forward run alone", _gap(y[..., :h], forward)),
        Check(f"output[…, {h}:] is a run over the reversed sequence", _gap(y[..., h:], backward)),
        Check("batch_first only exchanges the first two axes", _gap(across, deep)),
        Check(
            f"h_n ({', '.join(map(str, last.shape))}): its last two are the top layer's two ends",
            _gap(last[-2:], ends),
        ),
    ]


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())
