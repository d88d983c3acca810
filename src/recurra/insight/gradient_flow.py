"""How a gradient fares on its way back through time, beside what theory allows.

With s_t all states after step t (h, or h and c) and J_t = ∂s_t/∂s_{t-1}, the chain rule gives

    ∂L_T/∂s_{T-k} = ∂L_T/∂s_T · J_T · J_{T-1} ⋯ J_{T-k+1}                              (1)
    ‖∂L_T/∂s_{T-k}‖ ≤ ‖∂L_T/∂s_T‖ · ‖J_T‖ ⋯ ‖J_{T-k+1}‖                               (2)

the norms of J being the largest singular values. For an Elman network J_t = diag(φ'(a_t)) R, so
that ‖J_t‖ ≤ γ σ_max(R) with γ the steepest slope of φ: 1 for tanh and ReLU, 1/4 for σ. Where
γ σ_max(R) < 1, the gradient must vanish, at least as fast as its powers; and it can explode only
where γ σ_max(R) > 1. Source: Pascanu, Mikolov & Bengio 2013, "On the difficulty of training
recurrent neural networks", section 2.1, equations 5 to 7; Bengio, Simard & Frasconi 1994.

The left side of (1) is measured by autograd, the right side of (2) with Jacobians taken one by
one; the bounds from weights alone are `weight_bound`'s.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recurra.cells import (
    ELMAN_CELL,
    ELMAN_RELU_CELL,
    ELMAN_SIGMOID_CELL,
    GRU_CELL,
    IRNN_CELL,
    LSTM_CELL,
)
from recurra.errors import ArgumentError, ShapeError
from recurra.insight.stack import Stack, cast_parameters
from recurra.insight.structure import one_thread
from recurra.layers import Recurrent
from recurra.reference import Parameters, Tensors

_SLOPES = {ELMAN_CELL: 1.0, ELMAN_RELU_CELL: 1.0, IRNN_CELL: 1.0, ELMAN_SIGMOID_CELL: 0.25}


@dataclass(frozen=True)
class GradientFlow:
    """Gradients of the loss at the last step with respect to the states k steps before it.

    Norms are relative to that at lag 0, so the first of each is 1; rows are sequences.

    Attributes:
        norms: (rows, lags + 1), float64, ‖∂L_T/∂s_{T-k}‖ with all states together.
        by_state: the same for each state alone, by name, over the same norm at lag 0.
        path_bounds: (rows, lags + 1): the product of the norms of the Jacobians along the path.
        weight_bounds: (lags + 1,): from weights alone; None where no formula is known.
        eigenvalues: (rows, states), complex: of J_T.
        largest_singular_value: of J_T, the mean over rows.
        steepest_factor: γ σ_max(R) of an Elman network, else None.
    """

    norms: Tensor
    by_state: dict[str, Tensor]
    path_bounds: Tensor
    weight_bounds: Tensor | None
    eigenvalues: Tensor
    largest_singular_value: float
    steepest_factor: float | None

    @property
    def lags(self) -> int:
        """The longest lag, in steps."""
        return self.norms.shape[1] - 1

    @property
    def spectral_radius(self) -> float:
        """The largest |eigenvalue| of J_T, the mean over rows."""
        return float(self.eigenvalues.abs().amax(1).mean())

    @property
    def factor_per_step(self) -> float:
        """What a step back multiplies the median norm by, from lag 1 to the last; 0 if it died."""
        median = self.norms.median(0).values
        if self.lags < 2 or float(median[-1]) == 0:
            return 0.0
        return float((median[-1] / median[1]) ** (1 / (self.lags - 1)))


def gradient_flow(
    layers: Recurrent | Sequence[Recurrent],
    x: Tensor,
    *,
    lags: int | None = None,
    loss: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
) -> GradientFlow:
    """Measure one stack of layers on one batch, in float64.

    Args:
        layers: a layer, or several, each reading the one before; one direction, as in evaluation.
        x: (time, batch, input): what the first layer reads, time first.
        lags: how far to look back; None: to the state before the first step.
        loss: from the top layer's last output (batch, size), float64, to the loss of each row
            (batch,), or to their sum; None: its projection on a random direction for each row.
        seed: of these directions.

    Raises:
        ArgumentError: a bidirectional layer, or a loss without a gradient.
        ShapeError: x has no three axes, or fewer steps than `lags`, or none.

    Cost:
        A Jacobian for each row and lag; with S numbers in all states S² numbers and O(S³) each.

    Example:
        >>> from recurra.layers import RNN
        >>> flow = gradient_flow(RNN(3, 8, nonlinearity="sigmoid"), torch.randn(20, 4, 3))
        >>> flow.norms.shape, bool((flow.norms <= flow.path_bounds * (1 + 1e-9)).all())
        (torch.Size([4, 21]), True)
        >>> flow.factor_per_step < 0.25
        True
    """
    stack = Stack([layers] if isinstance(layers, Recurrent) else list(layers), torch.float64)
    if x.dim() != 3 or x.shape[0] < max(lags or 1, 1):
        raise ShapeError(
            f"x has shape {tuple(x.shape)}; expected (time, batch, input) with {lags or 1} steps "
            "or more"
        )
    lags = lags or x.shape[0]
    x = x.detach().double()
    states = _states(stack, x, lags)
    top = stack.top(states[-1])
    if loss is None:
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(top.shape, generator=generator, dtype=top.dtype)
        total = (top * directions / directions.norm(dim=1, keepdim=True)).sum()
    else:
        total = loss(top).sum()
    flat = [s for step in states for s in step]
    found = torch.autograd.grad(total, flat, allow_unused=True)
    gradients = [torch.zeros_like(s) if g is None else g for g, s in zip(found, flat, strict=True)]
    count = len(stack.names)
    # newest first: lag 0, 1, …
    by_lag = [gradients[k : k + count] for k in range(0, len(gradients), count)][::-1]
    first = torch.cat(by_lag[0], 1).norm(dim=1)
    if not bool((first > 0).all()):
        raise ArgumentError(
            "the loss of a row does not depend on the last output (its gradient is 0); pass another"
        )
    norms = torch.stack([torch.cat(g, 1).norm(dim=1) / first for g in by_lag], 1)
    with one_thread():  # many small matrices
        jacobians = _jacobians(stack, x[-lags:], states)
        squares = torch.linalg.eigvalsh(jacobians.mT @ jacobians)[..., -1]
        eigenvalues = torch.linalg.eigvals(jacobians[0])
    singular = squares.clamp(min=0).sqrt()  # the largest of each, (lags, rows), newest first
    path = torch.cat((torch.ones_like(singular[:1]), singular.cumprod(0))).t()
    return GradientFlow(
        norms=norms,
        by_state={
            name: torch.stack([g[k].norm(dim=1) / first for g in by_lag], 1)
            for k, name in enumerate(stack.names)
        },
        path_bounds=path,
        weight_bounds=_weight_bounds(stack, states, lags),
        eigenvalues=eigenvalues,
        largest_singular_value=float(singular[0].mean()),
        steepest_factor=_steepest_factor(stack),
    )


def _states(stack: Stack, x: Tensor, lags: int) -> list[Tensors]:
    """The last lags + 1 tuples of states, the newest last, each a node of the graph."""
    state = stack.initial(x.shape[1])
    with torch.no_grad():
        for x_t in x[: x.shape[0] - lags]:
            state = stack.advance(x_t, state)
    states = [tuple(s.detach().requires_grad_() for s in state)]
    for x_t in x[x.shape[0] - lags :]:
        # copies, so that the gradient of c does not hold what came through the h of the same step
        states.append(tuple(s.clone() for s in stack.advance(x_t, states[-1])))
    return states


def _jacobians(stack: Stack, x: Tensor, states: list[Tensors]) -> Tensor:
    """J of each of the last steps and rows, newest first: (lags, rows, S, S)."""
    sizes = [s.shape[1] for s in states[0]]

    def step(flat: Tensor, x_t: Tensor) -> Tensor:
        before = tuple(s.unsqueeze(0) for s in torch.split(flat, sizes))
        return torch.cat(stack.advance(x_t.unsqueeze(0), before), 1).squeeze(0)

    jacobian = torch.func.vmap(torch.func.jacrev(step))
    flat = [torch.cat(step_states, 1).detach() for step_states in states]
    return torch.stack([jacobian(s, x_t) for s, x_t in zip(flat[:-1], x, strict=True)][::-1])


def _only_layer(stack: Stack) -> Recurrent | None:
    if len(stack.layers) > 1 or stack.layers[0].num_layers > 1 or any(stack.layers[0].zoneout):
        return None
    return stack.layers[0]


def _steepest_factor(stack: Stack) -> float | None:
    layer = _only_layer(stack)
    if layer is None or layer.cell not in _SLOPES:
        return None
    p = cast_parameters(layer, 0, torch.float64)
    return _SLOPES[layer.cell] * _largest(p.weight_hh)


def _weight_bounds(stack: Stack, states: list[Tensors], lags: int) -> Tensor | None:
    layer = _only_layer(stack)
    if layer is None:
        return None
    memory = max(float(step[-1].detach().abs().max()) for step in states)
    step = weight_bound(layer, largest_memory=memory)
    if step is None:
        return None
    powers = [torch.eye(len(step), dtype=torch.float64)]
    for _ in range(lags):
        powers.append(powers[-1] @ step)
    # the gradient begins in h alone
    return torch.stack([power[0].norm() for power in powers])


def weight_bound(layer: Recurrent, *, largest_memory: float = 1.0) -> Tensor | None:
    """A matrix M of numbers with ‖block of J‖ ≤ entry of M, whatever the input: from weights alone.

    Elman: γ σ_max(R). GRU, with |h| ≤ 1 and m = max_i (Σ_j |R_n,ij| + |b_hn,i|)::

        sqrt(1 + (‖R_n‖ + m ‖R_r‖ / 4)²) + ‖R_z‖ / 2

    since z ∘ a + (1 - z) ∘ b is nowhere larger than the larger of both. LSTM, for the pair
    (h, c), with C the largest memory and B = C ‖R_f‖ / 4 + ‖R_i‖ / 4 + ‖R_g‖::

        M = [[B + ‖R_o‖ / 4, 1], [B, 1]]

    Source: from the equations of `recurra.cells`; slopes of σ and tanh are at most 1/4 and 1. For
    gated cells it is above 1 by construction: no weights make it certain that they forget, and it
    is loose.

    Args:
        layer: one layer in one direction; its cell may be any.
        largest_memory: C, the largest |c| that the LSTM holds.

    Returns:
        (1, 1) or (2, 2), float64; None for cells other than Elman, GRU and LSTM.

    Example:
        >>> from recurra.layers import RNN
        >>> layer = RNN(3, 4, init="orthogonal", nonlinearity="sigmoid")
        >>> round(float(weight_bound(layer)), 4)
        0.25
    """
    p = cast_parameters(layer, 0, torch.float64)
    if layer.cell in _SLOPES:
        return torch.tensor([[_SLOPES[layer.cell] * _largest(p.weight_hh)]], dtype=torch.float64)
    if layer.cell == GRU_CELL:
        return torch.tensor([[_gru_bound(p)]], dtype=torch.float64)
    if layer.cell == LSTM_CELL and not layer.proj_size:
        i, f, g, o = (_largest(block) for block in _blocks(p, 4))
        into = largest_memory * f / 4 + i / 4 + g
        return torch.tensor([[into + o / 4, 1.0], [into, 1.0]], dtype=torch.float64)
    return None


def _gru_bound(p: Parameters) -> float:
    reset, update, new = _blocks(p, 3)
    rows = new.abs().sum(1)
    if p.bias_hh is not None:
        rows = rows + p.bias_hh.chunk(3)[2].abs()
    inner = _largest(new) + float(rows.max()) * _largest(reset) / 4
    return float((1 + inner**2) ** 0.5 + _largest(update) / 2)


def _blocks(p: Parameters, gates: int) -> tuple[Tensor, ...]:
    assert p.weight_hh is not None
    return p.weight_hh.chunk(gates)


def _largest(matrix: Tensor | None) -> float:
    """The largest singular value."""
    assert matrix is not None
    return float(torch.linalg.matrix_norm(matrix, ord=2))
