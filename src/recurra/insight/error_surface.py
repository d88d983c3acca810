"""Why gradients are clipped: the error of a one-unit recurrence has a cliff, and steps fly off it.

    h_t = w φ(h_{t-1}) + b        t = 1 … T, from h_0
    E = (φ(h_T) - target)²

With φ the logistic function, h_0 = 0.5, T = 50 and target 0.7 this is figure 6 of Pascanu, Mikolov
& Bengio 2013. With φ the identity it has a closed form, h_T = w^T h_0 + b (1 - w^T) / (1 - w).
Clipping by norm (their algorithm 1): g ← g · min(1, threshold / ‖g‖).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recurra.errors import ArgumentError

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "identity": torch.positive,
}


@dataclass(frozen=True)
class OneUnit:
    """A recurrence of one unit, and what it is asked to reach.

    Attributes:
        steps: T.
        start: h_0.
        target: of φ(h_T).
        activation: "sigmoid" or "identity".

    Example:
        >>> line = OneUnit(steps=3, start=2.0, target=0.0, activation="identity")
        >>> float(line.error(torch.tensor(0.5), torch.tensor(0.0)))  # (0.5³ · 2)²
        0.0625
    """

    steps: int = 50
    start: float = 0.5
    target: float = 0.7
    activation: str = "sigmoid"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.activation not in _FUNCTIONS:
            raise ArgumentError(
                f"steps={self.steps}, activation={self.activation!r}: expected 1 step or more and "
                f"one of {', '.join(_FUNCTIONS)}"
            )

    def error(self, w: Tensor, b: Tensor) -> Tensor:
        """E at each pair of w and b, which broadcast; differentiable."""
        function = _FUNCTIONS[self.activation]
        h = torch.full_like(w + b, self.start)
        for _ in range(self.steps):
            h = w * function(h) + b
        return (function(h) - self.target).square()

    def gradient(self, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """∂E/∂w and ∂E/∂b at each pair."""
        w, b = w + torch.zeros_like(b), b + torch.zeros_like(w)  # of one shape
        w, b = (t.detach().double().requires_grad_() for t in (w, b))
        dw, db = torch.autograd.grad(self.error(w, b).sum(), (w, b))
        return dw, db


@dataclass(frozen=True)
class Descent:
    """A path of gradient descent over the surface.

    Attributes:
        points: (steps + 1, 2): w and b, the start included.
        errors: (steps + 1,).
        norms: (steps,): of each gradient before clipping.
        clipped: how many gradients were shortened.
    """

    points: Tensor
    errors: Tensor
    norms: Tensor
    clipped: int

    @property
    def longest_step(self) -> float:
        """The longest distance in (w, b) that one step went."""
        return float((self.points[1:] - self.points[:-1]).norm(dim=1).max())


def descend(
    unit: OneUnit,
    start: tuple[float, float],
    *,
    rate: float,
    steps: int,
    threshold: float = math.inf,
) -> Descent:
    """Gradient descent from (w, b), each gradient clipped by its norm.

    Args:
        unit: gives the error.
        start: w and b.
        rate: what a gradient is multiplied by: no step is longer than rate · threshold.
        steps: of descent.
        threshold: the longest gradient; infinite for no clipping.

    Raises:
        ArgumentError: rate, steps or threshold not above 0.

    Example:
        >>> unit = OneUnit(steps=1, start=1.0, target=0.0, activation="identity")  # E = (w + b)²
        >>> path = descend(unit, (1.0, 0.0), rate=0.25, steps=1)
        >>> path.points.tolist()
        [[1.0, 0.0], [0.5, -0.5]]
        >>> round(descend(unit, (1.0, 0.0), rate=0.25, steps=1, threshold=0.4).longest_step, 6)
        0.1
    """
    if rate <= 0 or steps < 1 or not threshold > 0:
        raise ArgumentError(f"rate={rate}, steps={steps}, threshold={threshold}: must be above 0")
    point = torch.tensor(start, dtype=torch.float64)
    points, norms, clipped = [point], [], 0
    for _ in range(steps):
        g = torch.stack(unit.gradient(point[0], point[1]))
        norm = float(g.norm())
        if norm > threshold:
            g, clipped = g * (threshold / norm), clipped + 1
        point = point - rate * g
        points.append(point)
        norms.append(norm)
    path = torch.stack(points)
    errors = unit.error(path[:, 0], path[:, 1])
    return Descent(path, errors, torch.tensor(norms, dtype=torch.float64), clipped)


@dataclass(frozen=True)
class NormStatistics:
    """Gradient norms of a training run.

    Attributes:
        count: rows of the log.
        median, mean, percentile_95, largest: of the norms before clipping.
        threshold: what the run clipped at; 0 for nothing.
        clipped_share: of the steps, in 0..1.
        suggested: a threshold; see `suggest_threshold`.
    """

    count: int
    median: float
    mean: float
    percentile_95: float
    largest: float
    threshold: float
    clipped_share: float
    suggested: float


def suggest_threshold(norms: Sequence[float]) -> float:
    """The 95th percentile of the norms in the later half of training, to two digits.

    Training is then left as it is on all but the rarest steps, which are where cliffs are.
    Pascanu et al. 2013, section 3.2, propose half to ten times the mean norm over many steps, and
    note that training depends little on the choice.

    Args:
        norms: before clipping, in the order of training.

    Raises:
        ArgumentError: none.

    Example:
        >>> suggest_threshold([9.0] * 100 + [1.0] * 94 + [2.344] * 6)
        2.3
    """
    if not norms:
        raise ArgumentError("no gradient norms to suggest a threshold from")
    later = torch.tensor(norms[len(norms) // 2 :], dtype=torch.float64)
    return float(f"{float(later.quantile(0.95)):.2g}")


def norm_statistics(
    norms: Sequence[float], threshold: float, clipped_share: float
) -> NormStatistics:
    """What a log says of its gradient norms.

    Example:
        >>> norm_statistics([1.0, 2.0, 3.0], 2.0, 0.4).median
        2.0
    """
    suggested = suggest_threshold(norms)
    values = torch.tensor(norms, dtype=torch.float64)
    return NormStatistics(
        count=len(norms),
        median=float(values.quantile(0.5)),
        mean=float(values.mean()),
        percentile_95=float(values.quantile(0.95)),
        largest=float(values.max()),
        threshold=threshold,
        clipped_share=clipped_share,
        suggested=suggested,
    )
