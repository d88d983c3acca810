"""Two models mixed: p(w) = λ p_1(w) + (1 - λ) p_2(w), λ chosen on a valid split.

Models that err differently, a recurrent one and an n-gram, say, are better together. The mixture
needs no more than each model's log-probability of the same things: tokens of a text, classes.
"""

import math

import torch
from torch import Tensor

from recurra.errors import ArgumentError, ShapeError

TOLERANCE = 1e-7
MOST_STEPS = 1000


def interpolated(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Log-probabilities of the mixture.

    Args:
        first: of any shape, natural logarithms; -inf is probability 0.
        second: the same under the other model.
        weight: λ of the first, in 0..1.

    Returns:
        Of the same shape, float64.

    Raises:
        ArgumentError: weight out of 0..1.
        ShapeError: different shapes, or no number.

    Example:
        >>> one, other = torch.tensor([0.5, 0.2]).log(), torch.tensor([0.1, 0.6]).log()
        >>> interpolated(one, other, 0.25).exp()
        tensor([0.2000, 0.5000], dtype=torch.float64)
    """
    if not 0 <= weight <= 1:
        raise ArgumentError(f"weight={weight} must be in 0..1")
    _check(first, second)
    parts = [
        part.double() + (math.log(share) if share else -math.inf)
        for part, share in ((first, weight), (second, 1 - weight))
    ]
    return torch.logaddexp(*parts)


def best_weight(first: Tensor, second: Tensor) -> float:
    """The λ under which what came is most probable, by expectation maximisation.

        λ' = mean of λ p_1 / (λ p_1 + (1 - λ) p_2)

    The likelihood is concave in λ, so there is one maximum, and each step goes up towards it
    (Jelinek & Mercer 1980). What both models find impossible says nothing about λ and is
    left out.

    Args:
        first: log-probabilities of what came in a valid split: its tokens, its true classes.
        second: the same under the other model.

    Raises:
        ShapeError: different shapes, or no number.

    Example:
        >>> one = torch.tensor([0.9, 0.9, 0.1]).log()
        >>> other = torch.tensor([0.1, 0.1, 0.9]).log()
        >>> round(best_weight(one, other), 4)  # (2/3 - 0.1) / 0.8
        0.7083
    """
    _check(first, second)
    odds = second.double() - first.double()
    odds = odds[~odds.isnan()]  # NaN: -inf under both
    weight = 0.5
    for _ in range(MOST_STEPS):
        shift = math.log1p(-weight) - math.log(weight) if 0 < weight < 1 else None
        if shift is None or not len(odds):
            break
        new = float(torch.sigmoid(-(odds + shift)).mean())
        if abs(new - weight) < TOLERANCE:
            return new
        weight = new
    return weight


def _check(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or not first.numel():
        raise ShapeError(
            f"log-probabilities have shapes {tuple(first.shape)} and {tuple(second.shape)}; "
            "expected two of the same shape, of at least one number"
        )
