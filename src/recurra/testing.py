"""The contract that every cell and every backend keeps, as one public check.

`check_cell(my_cell)` runs it for a user's cell; the project's own tests run it for every shipped
cell on every backend. Weights, states and upstream gradients are random and distinct everywhere:
with constant weights or zero states, exchanged gates and dropped states go unnoticed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recurra import kernels
from recurra.cells import Cell
from recurra.errors import CellError
from recurra.layers import Recurrent, State
from recurra.reference import Controls, Parameters, Tensors, scan

# Error allowed against float64: four times what plain torch makes of the same problem in float32,
# and never under this floor. Polynomials for tanh and sigmoid, right to 1e-6, cost about that
# alone; measured: 1.8e-6 in the gradient of a gain of layer normalisation, a sum that cancels.
FLOOR = 2e-6
# The same for gradients of per-unit vectors, sums over all rows and steps, which cancel the most;
# measured: 7.8e-6 for a shift of layer normalisation under AVX2, where plain torch has 1.9e-6.
VECTOR_FLOOR = 1e-5
# How far two ways to the same float32 answer may be apart, relative to the largest value.
CLOSE = 4e-6


def check_cell(cell: Cell, *, backend: str = "auto", device: str = "cpu", seed: int = 0) -> None:
    """Check a cell, and the backend that runs it, against all that recurra promises.

    Float32 answers are compared with the float64 reference: output, last states and every
    gradient, at every step. Then: a sequence split anywhere and carried on by its state gives the
    unsplit answer; padding is never read; rows do not touch each other; the future does not touch
    the past; two directions are two runs; `step` is the sequence; a reset starts a new sequence;
    rows of length 0 pass their state through; answers without gradients are the same; values and
    gradients stay finite at |x| = 50.

    Args:
        cell: any cell.
        backend: what runs it; "auto" takes the one that users get.
        device: where. On a GPU products must not be in TF32 (`torch.backends.cudnn`), or none of
            this can hold.
        seed: of the random weights and inputs.

    Raises:
        CellError: the step breaks the contract of `Cell` (number or shape of its states).
        AssertionError: a promise is broken; says which one, by how much.

    Example:
        >>> from recurra.cells import LSTM_CELL
        >>> check_cell(LSTM_CELL, backend="reference")
    """
    torch.manual_seed(seed)
    with torch.device(device):
        _check_step(cell)
        for controls in ("plain", "lengths", "reset", "masks"):
            for is_reverse in (False, True):
                _check_against_float64(cell, backend, controls, is_reverse)
        layer = _layer(cell, backend)
        _check_split(layer)
        _check_padding(layer)
        _check_rows(layer)
        _check_causality(layer)
        _check_steps(layer)
        _check_resets(layer)
        _check_inference(cell, backend)
        _check_directions(cell, backend)
        _check_finite(layer)


def random_problem(
    cell: Cell,
    *,
    time: int = 7,
    batch: int = 3,
    input_size: int = 5,
    hidden_size: int = 6,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensors, Parameters]:
    """Random input, states and weights of one layer that all require gradients.

    A cell with an output product gets an output of another size than its hidden layer.
    """
    gates, output = len(cell.gates), hidden_size - 2 if cell.output is not None else hidden_size

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, dtype=torch.float64) * scale).to(dtype).requires_grad_()

    rows, spread = gates * hidden_size, hidden_size**-0.5
    parameters = Parameters(
        draw(rows, input_size, scale=input_size**-0.5),
        draw(rows, output, scale=spread) if cell.recurrent else None,
        draw(rows, scale=0.5),
        draw(rows, scale=0.5) if cell.recurrent else None,
        draw(output, hidden_size, scale=spread) if cell.output is not None else None,
        draw(output, scale=0.5) if cell.output_bias else None,
        tuple(draw(hidden_size) for _ in cell.vectors),
    )
    sizes = (output, *(hidden_size for _ in cell.states[1:]))
    return draw(time, batch, input_size), tuple(draw(batch, s) for s in sizes), parameters


def _check_step(cell: Cell) -> None:
    """The step returns one state of the right shape for each name."""
    hidden = torch.randn(2, 4)
    count = len(cell.gates)
    inputs, state = (hidden,) * count, (hidden,) * len(cell.states)
    new = cell.advance(
        inputs, inputs if cell.recurrent else (), state, (hidden[0],) * len(cell.vectors)
    )
    if not isinstance(new, tuple) or len(new) != len(cell.states):
        got = f"{len(new)} values" if isinstance(new, tuple) else type(new).__name__
        raise CellError(
            f"cell {cell.name!r}: step returned {got}; expected a tuple of the "
            f"{len(cell.states)} states {cell.states}"
        )
    for name, s in zip(cell.states, new, strict=True):
        if s.shape != hidden.shape:
            raise CellError(
                f"cell {cell.name!r}: step returned state {name} of shape {tuple(s.shape)} for "
                f"gates and states of shape {tuple(hidden.shape)}; they must be equal"
            )


def _controls(kind: str, x: Tensor, state: Tensors, is_reverse: bool) -> Controls:
    time, batch = x.shape[:2]
    if kind == "lengths":
        lengths = torch.randint(1, time, (batch,))
        lengths[0], lengths[-1] = time, 0
        return Controls(lengths=lengths, is_reverse=is_reverse)
    if kind == "reset":
        return Controls(reset=torch.rand(time, batch) < 0.4, is_reverse=is_reverse)
    if kind == "masks":
        mask = (torch.rand(state[0].shape) < 0.7) / 0.7
        zoneout = tuple(torch.bernoulli(torch.full((time, *s.shape), 0.3)) for s in state)
        return Controls(
            lengths=torch.full((batch,), time - 1),
            is_reverse=is_reverse,
            hidden_mask=mask,
            zoneout=zoneout,
        )
    return Controls(is_reverse=is_reverse)


@dataclass(frozen=True)
class Error:
    """How far one result is from float64, and how far plain torch's float32 is.

    Attributes:
        name: "sequence h", "last c", "gradient weight_hh", …
        ours: norm of the difference over the norm of the truth, on the whole tensor.
        torch: the same of the reference loop in float32.
        ours_worst_step: largest such ratio of a single step, for what has steps; steps whose norm
            is below a thousandth of the largest count as that. Equal to `ours` for other results.
        torch_worst_step: the same of the reference loop in float32.
        floor: what is let pass however exact plain torch is.
    """

    name: str
    ours: float
    torch: float
    ours_worst_step: float
    torch_worst_step: float
    floor: float = FLOOR

    @property
    def is_ok(self) -> bool:
        """Within four times what plain torch makes of it, or under the floor."""
        return self.ours <= max(4 * self.torch, self.floor) and (
            self.ours_worst_step <= max(4 * self.torch_worst_step, self.floor)
        )


def errors_against_float64(
    cell: Cell,
    *,
    backend: str = "auto",
    controls: str = "plain",
    is_reverse: bool = False,
    under_autocast: bool = False,
    **sizes: int,
) -> list[Error]:
    """Errors of a backend in float32: outputs, every state, last states and every gradient.

    Weights, inputs, states and the gradients from above are random, and on torch's default device.

    Args:
        cell: any cell.
        backend: what runs it.
        controls: "plain", "lengths" (ragged, with a full and an empty row), "reset" or "masks"
            (recurrent dropout and zoneout).
        is_reverse: run from the last step to the first.
        under_autocast: run the backend, and plain torch beside it, under autocast to bfloat16.
        sizes: `time`, `batch`, `input_size` and `hidden_size`, in place of those of
            `random_problem`.

    Example:
        >>> from recurra.cells import GRU_CELL
        >>> errors = errors_against_float64(GRU_CELL, time=20, hidden_size=17)
        >>> [error.name for error in errors][:3], all(error.is_ok for error in errors)
        (['sequence h', 'last h', 'gradient x'], True)
    """
    x, state, parameters = random_problem(cell, **sizes)  # type: ignore[arg-type]
    drawn = _controls(controls, x, state, is_reverse)
    upstream: list[Tensor] = []

    def through(run: Callable[..., tuple[Tensors, Tensors]], dtype: torch.dtype) -> list[Tensor]:
        leaves = [t.detach().to(dtype).requires_grad_() for t in _flat(x, state, parameters)]
        sequences, last = run(cell, *_unflat(leaves, state, parameters), _cast(drawn, dtype))
        results = [*sequences, *last]
        if not upstream:
            upstream.extend(torch.randn_like(r) for r in results)
        total = sum((r * u.to(dtype)).sum() for r, u in zip(results, upstream, strict=True))
        gradients = torch.autograd.grad(total, leaves, allow_unused=True)  # type: ignore[arg-type]
        gradients = tuple(
            torch.zeros_like(leaf) if g is None else g
            for g, leaf in zip(gradients, leaves, strict=True)
        )
        return [r.detach() for r in results] + list(gradients)

    def ours(*arguments: object) -> tuple[Tensors, Tensors]:
        return kernels.run(*arguments, all_states=True, backend=backend)  # type: ignore[arg-type]

    truth = through(scan, torch.float64)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=under_autocast):
        plain, got = through(scan, torch.float32), through(ours, torch.float32)
    names = [f"sequence {s}" for s in cell.states] + [f"last {s}" for s in cell.states]
    names += [f"gradient {n}" for n in _names(cell, parameters)]
    return [
        Error(
            name,
            _relative(g, w),
            _relative(p, w),
            _relative_at_worst_step(name, g, w),
            _relative_at_worst_step(name, p, w),
            VECTOR_FLOOR if name.removeprefix("gradient ") in cell.vectors else FLOOR,
        )
        for name, g, w, p in zip(names, got, truth, plain, strict=True)
    ]


def _check_against_float64(cell: Cell, backend: str, kind: str, is_reverse: bool) -> None:
    """Outputs, last states and gradients, with random gradients coming from all of them."""
    direction = "reverse" if is_reverse else "forward"
    for error in errors_against_float64(
        cell, backend=backend, controls=kind, is_reverse=is_reverse
    ):
        assert error.is_ok, f"cell {cell.name!r}, {kind}, {direction}: {error}"


def _relative(got: Tensor, want: Tensor) -> float:
    """Norm of the difference over the norm of what is wanted."""
    if not want.numel():
        return 0.0
    error = float((got.double() - want).norm() / want.norm().clamp_min(1e-3))
    return error if math.isfinite(error) else math.inf


def _relative_at_worst_step(name: str, got: Tensor, want: Tensor) -> float:
    if not (name.startswith("sequence") or name == "gradient x") or not want.numel():
        return _relative(got, want)
    norms = want.flatten(1).norm(dim=1)
    scale = norms.clamp_min(1e-3 * float(norms.max())).clamp_min(1e-6)
    error = float(((got.double() - want).flatten(1).norm(dim=1) / scale).max())
    return error if math.isfinite(error) else math.inf


def _names(cell: Cell, parameters: Parameters) -> list[str]:
    weights = [
        n for n, p in zip(Parameters._fields[:6], parameters[:6], strict=True) if p is not None
    ]
    return ["x", *(f"initial {s}" for s in cell.states), *weights, *cell.vectors]


def _flat(x: Tensor, state: Tensors, parameters: Parameters) -> list[Tensor]:
    weights = [p for p in parameters[:6] if p is not None]
    return [x, *state, *weights, *parameters.vectors]


def _unflat(
    leaves: list[Tensor], state: Tensors, parameters: Parameters
) -> tuple[Tensor, Tensors, Parameters]:
    rest = iter(leaves)
    x, states = next(rest), tuple(next(rest) for _ in state)
    weights = [None if p is None else next(rest) for p in parameters[:6]]
    return x, states, Parameters(*weights, tuple(rest))  # type: ignore[arg-type, call-arg]


def _cast(controls: Controls, dtype: torch.dtype) -> Controls:
    mask = controls.hidden_mask
    return controls._replace(
        hidden_mask=None if mask is None else mask.to(dtype),
        zoneout=tuple(None if z is None else z.to(dtype) for z in controls.zoneout),
    )


def _error(got: Tensor, want: Tensor) -> float:
    """Largest difference, relative to the largest wanted value, on the whole tensor."""
    scale = max(float(want.abs().max()), 1e-3) if want.numel() else 1.0
    difference = (got.double() - want).abs()
    if not bool(torch.isfinite(difference).all()):
        return float("inf")
    return float(difference.max()) / scale if want.numel() else 0.0


def _assert_close(name: str, cell: Cell, got: Tensor, want: Tensor) -> None:
    error = _error(got.detach(), want.detach().double())
    assert error <= CLOSE, (
        f"cell {cell.name!r}: {name}; they differ by {error:.1e} of the largest value"
    )


def _layer(cell: Cell, backend: str, num_layers: int = 2, bidirectional: bool = False) -> Recurrent:
    """A layer with all weights random, also those that start at zero or one."""
    proj_size = 5 if cell.output is not None else 0
    layer = Recurrent(
        cell, 4, 6, num_layers, bidirectional=bidirectional, proj_size=proj_size, backend=backend
    )
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn_like(p) * 0.4)
    return layer.eval()


def _start(layer: Recurrent, batch: int) -> State:
    return layer.initial_state(batch).map(torch.randn_like)


def _check_split(layer: Recurrent) -> None:
    x, start = torch.randn(6, 3, 4), _start(layer, 3)
    y, last = layer(x, start)
    for cut in range(7):
        y1, middle = layer(x[:cut], start)
        y2, end = layer(x[cut:], middle)
        name = f"a sequence split at step {cut} must give the unsplit one"
        _assert_close(name, layer.cell, torch.cat((y1, y2)), y)
        for a, b in zip(_tensors(end), _tensors(last), strict=True):
            _assert_close(name, layer.cell, a, b)


def _tensors(state: State) -> list[Tensor]:
    return [s for layer in state.layers for s in layer]


def _check_padding(layer: Recurrent) -> None:
    x, start = torch.randn(6, 4, 4), _start(layer, 4)
    lengths = torch.tensor([4, 6, 0, 1])
    is_padding = (torch.arange(6).unsqueeze(1) >= lengths).unsqueeze(-1)
    y, last = layer(x, start, lengths=lengths)
    assert not bool(y.masked_select(is_padding).any()), "outputs past a row's length must be zero"
    for filling in (1e4, float("nan")):
        y2, last2 = layer(x.masked_fill(is_padding, filling), start, lengths=lengths)
        _assert_close(f"padding filled with {filling} must not be read", layer.cell, y2, y)
        for a, b in zip(_tensors(last2), _tensors(last), strict=True):
            _assert_close(f"padding filled with {filling} must not be read", layer.cell, a, b)
    for row, length in enumerate(lengths.tolist()):
        alone, end = layer(x[:length, row : row + 1], start.select(torch.tensor([row])))
        name = f"row {row} of length {length} must be what it is alone"
        _assert_close(name, layer.cell, y[:length, row], alone[:, 0])
        for a, b in zip(_tensors(last), _tensors(end), strict=True):
            _assert_close(name, layer.cell, a[row], b[0])


def _check_rows(layer: Recurrent) -> None:
    x, start, order = torch.randn(5, 4, 4), _start(layer, 4), torch.tensor([2, 0, 3, 1])
    y, _ = layer(x, start)
    shuffled, _ = layer(x[:, order], start.select(order))
    _assert_close("rows in another order must answer the same", layer.cell, shuffled, y[:, order])


def _check_causality(layer: Recurrent) -> None:
    x, start = torch.randn(6, 2, 4), _start(layer, 2)
    y, _ = layer(x, start)
    changed, _ = layer(torch.cat((x[:3], torch.randn(3, 2, 4))), start)
    _assert_close("future inputs must not move past outputs", layer.cell, changed[:3], y[:3])


def _check_steps(layer: Recurrent) -> None:
    x, start = torch.randn(5, 3, 4), _start(layer, 3)
    y, _ = layer(x, start)
    state = start
    for t in range(5):
        y_t, state = layer.step(x[t], state)
        _assert_close(f"step {t} must give the sequence's output", layer.cell, y_t, y[t])


def _check_resets(layer: Recurrent) -> None:
    x, start = torch.randn(6, 2, 4), _start(layer, 2)
    reset = torch.zeros(6, 2, dtype=torch.bool)
    reset[3, 0] = True
    y, _ = layer(x, start, reset=reset)
    again, _ = layer(x[3:], start)
    whole, _ = layer(x, start)
    _assert_close("a reset must start a new sequence", layer.cell, y[3:, 0], again[:, 0])
    _assert_close("a reset must leave other rows alone", layer.cell, y[:, 1], whole[:, 1])


def _check_inference(cell: Cell, backend: str) -> None:
    """Without gradients, where a backend may keep less, the answers are the same."""
    for kind in ("plain", "lengths", "reset", "masks"):
        for is_reverse in (False, True):
            x, state, parameters = random_problem(cell)
            controls = _controls(kind, x, state, is_reverse)
            for all_states in (False, True):
                with torch.no_grad():
                    found = kernels.run(
                        cell, x, state, parameters, controls, all_states=all_states, backend=backend
                    )
                    sequences, last = scan(cell, x, state, parameters, controls)
                wanted = (*(sequences if all_states else sequences[:1]), *last)
                for got, want in zip((*found[0], *found[1]), wanted, strict=True):
                    name = f"{kind}: answers without gradients must be those with them"
                    _assert_close(name, cell, got, want)


def _check_directions(cell: Cell, backend: str) -> None:
    both = _layer(cell, backend, num_layers=1, bidirectional=True)
    x, lengths = torch.randn(6, 3, 4), torch.tensor([6, 4, 1])
    y, _ = both(x, lengths=lengths)
    size = y.shape[-1] // 2
    state = tuple(x.new_zeros(3, s) for s in (size, *(6 for _ in cell.states[1:])))
    flipped = torch.stack(
        [torch.cat((x[:n, b].flip(0), x[n:, b])) for b, n in enumerate(lengths.tolist())], 1
    )
    weights = [both._weights(0, direction) for direction in (0, 1)]
    a = scan(cell, x, state, weights[0], Controls(lengths))[0][0]
    b = scan(cell, flipped, state, weights[1], Controls(lengths))[0][0]
    b = torch.stack(
        [torch.cat((b[:n, k].flip(0), b[n:, k])) for k, n in enumerate(lengths.tolist())], 1
    )
    _assert_close("two directions must be two runs", cell, y, torch.cat((a, b), -1))


def _check_finite(layer: Recurrent) -> None:
    for scale in (0.0, 50.0):
        x = (torch.randn(4, 2, 4) * scale).requires_grad_()
        y, _ = layer(x)
        y.sum().backward()
        gradients = [x.grad, *(p.grad for p in layer.parameters())]
        assert bool(torch.isfinite(y).all()), f"outputs must be finite at |x| = {scale}"
        assert all(g is None or bool(torch.isfinite(g).all()) for g in gradients), (
            f"gradients must be finite at |x| = {scale}"
        )
        layer.zero_grad()
