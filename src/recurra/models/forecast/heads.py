"""What a forecasting network says of each target: a distribution, quantiles, or a point.

A head turns the numbers that a network puts out for one target, `parameters` (…, size), into a
loss against a value, a mean, quantiles and samples. `loc` and `scale` are the window's: the network
works on (value − loc) / scale, all results are in the target's own units.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributions import NegativeBinomial, StudentT
from torch.nn import functional as F

from recurra.errors import ArgumentError

HEADS = ("quantiles", "gaussian", "student_t", "negative_binomial", "mse", "mae")
SAMPLES = 400  # for quantiles of distributions that have no formula for them
SMALLEST = 1e-4  # of a deviation, in units of the window's scale


class Head(Protocol):
    """One target's output.

    Attributes:
        size: numbers that it needs of the network.
        is_distribution: whether it can be sampled.
    """

    size: int
    is_distribution: bool

    def loss(self, parameters: Tensor, value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        """Loss of each value, the shape of `value`; parameters have one axis more."""

    def mean(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        """Expected value."""

    def quantiles(self, parameters: Tensor, levels: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        """(…, levels), rising."""

    def sample(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        """One draw each, from torch's generator."""


class Gaussian:
    """Normal distribution; the loss is −log p of the scaled value, in nats."""

    size, is_distribution = 2, True

    def loss(self, parameters: Tensor, value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        mean, deviation = self._split(parameters)
        z = ((value - loc) / scale - mean) / deviation
        return 0.5 * z.square() + deviation.log() + 0.5 * math.log(2 * math.pi)

    def mean(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return self._split(parameters)[0] * scale + loc

    def quantiles(self, parameters: Tensor, levels: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        mean, deviation = (part.unsqueeze(-1) for part in self._split(parameters))
        z = math.sqrt(2) * torch.erfinv(2 * levels - 1)
        return (mean + deviation * z) * scale.unsqueeze(-1) + loc.unsqueeze(-1)

    def sample(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        mean, deviation = self._split(parameters)
        return (mean + deviation * torch.randn_like(mean)) * scale + loc

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = parameters.unbind(-1)
        return mean, F.softplus(deviation) + SMALLEST


class StudentHead:
    """Student's t distribution, for heavy tails; more than two degrees of freedom."""

    size, is_distribution = 3, True

    def loss(self, parameters: Tensor, value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        found: Tensor = -self._distribution(parameters).log_prob((value - loc) / scale)
        return found

    def mean(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return parameters[..., 0] * scale + loc

    def quantiles(self, parameters: Tensor, levels: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return _sampled_quantiles(self, parameters, levels, loc, scale)

    def sample(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        drawn: Tensor = self._distribution(parameters).sample()
        return drawn * scale + loc

    def _distribution(self, parameters: Tensor) -> Any:
        mean, deviation, freedom = parameters.unbind(-1)
        return StudentT(
            2 + F.softplus(freedom), mean, F.softplus(deviation) + SMALLEST, validate_args=False
        )


class NegativeBinomialHead:
    """Counts whose variance may exceed their mean: μ + α μ² (Salinas et al. 2020, section 3.1)."""

    size, is_distribution = 2, True

    def loss(self, parameters: Tensor, value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        found: Tensor = -self._distribution(parameters, scale).log_prob(value.clamp_min(0).round())
        return found

    def mean(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return self._split(parameters, scale)[0]

    def quantiles(self, parameters: Tensor, levels: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return _sampled_quantiles(self, parameters, levels, loc, scale)

    def sample(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        drawn: Tensor = self._distribution(parameters, scale).sample()
        return drawn

    def _split(self, parameters: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        mean, count = parameters.unbind(-1)
        return (F.softplus(mean) + SMALLEST) * scale, F.softplus(count) + 0.01

    def _distribution(self, parameters: Tensor, scale: Tensor) -> Any:
        mean, count = self._split(parameters, scale)
        return NegativeBinomial(count, logits=(mean / count).log(), validate_args=False)


class Bernoulli:
    """Yes or no; the loss is −log p in nats, the mean is the probability of yes."""

    size, is_distribution = 1, True

    def loss(self, parameters: Tensor, value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(parameters[..., 0], value, reduction="none")

    def mean(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return parameters[..., 0].sigmoid()

    def quantiles(self, parameters: Tensor, levels: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return (levels > 1 - self.mean(parameters, loc, scale).unsqueeze(-1)).to(parameters.dtype)

    def sample(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return torch.bernoulli(self.mean(parameters, loc, scale))


class Quantiles:
    """Quantiles at fixed levels; the loss is the mean pinball loss of the scaled value.

    Args:
        levels: rising, in 0..1 exclusive.
    """

    is_distribution = False

    def __init__(self, levels: Sequence[float]) -> None:
        self.levels = tuple(levels)
        self.size = len(self.levels)

    def loss(self, parameters: Tensor, value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        error = ((value - loc) / scale).unsqueeze(-1) - parameters
        levels = parameters.new_tensor(self.levels)
        return 2 * torch.maximum(levels * error, (levels - 1) * error).mean(-1)

    def mean(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        """The mean of the distribution whose quantiles go straight from level to level."""
        weights = parameters.new_tensor(level_weights(self.levels))
        return (parameters * weights).sum(-1) * scale + loc

    def quantiles(self, parameters: Tensor, levels: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        if len(levels) != self.size or max(abs(levels.cpu() - torch.tensor(self.levels))) > 1e-5:
            raise ArgumentError(
                f"this network was trained for the quantiles {list(self.levels)} and has no others"
            )
        rising = parameters.sort(-1).values
        return rising * scale.unsqueeze(-1) + loc.unsqueeze(-1)

    def sample(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        raise ArgumentError("quantiles cannot be sampled; choose a distribution as head")


class Point:
    """One number, trained by squared ("mse") or absolute ("mae") error; no intervals.

    Args:
        kind: "mse" or "mae".
    """

    size, is_distribution = 1, False

    def __init__(self, kind: str) -> None:
        self.is_squared = kind == "mse"

    def loss(self, parameters: Tensor, value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        error = (value - loc) / scale - parameters[..., 0]
        return error.square() if self.is_squared else error.abs()

    def mean(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return parameters[..., 0] * scale + loc

    def quantiles(self, parameters: Tensor, levels: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return self.mean(parameters, loc, scale).unsqueeze(-1).expand(*loc.shape, len(levels))

    def sample(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        raise ArgumentError("a point cannot be sampled; choose a distribution as head")


class Heads:
    """The heads of all targets, side by side in one output.

    Args:
        kinds: of each target: "real", "count" or "yesno" (which is a Bernoulli always).
        head: of the others; one of `HEADS`.
        levels: of quantiles.

    Raises:
        ArgumentError: an unknown head, or levels that do not rise in 0..1.

    Example:
        >>> heads = Heads(["real", "yesno"], "gaussian", [0.5])
        >>> mean, quantiles = heads.forecast(
        ...     torch.zeros(4, 3), torch.tensor([0.5]), torch.zeros(4, 2), torch.ones(4, 2)
        ... )
        >>> mean[0].tolist(), quantiles.shape
        ([0.0, 0.5], torch.Size([4, 2, 1]))
    """

    def __init__(self, kinds: Sequence[str], head: str, levels: Sequence[float]) -> None:
        if head not in HEADS:
            raise ArgumentError(f"head={head!r} is unknown; expected one of {', '.join(HEADS)}")
        if not levels or any(b <= a for a, b in zip((0, *levels), (*levels, 1), strict=True)):
            raise ArgumentError(f"levels={list(levels)}; they must rise, between 0 and 1")
        self.heads = [Bernoulli() if kind == "yesno" else _head(head, levels) for kind in kinds]
        self.size = sum(head.size for head in self.heads)
        self.is_distribution = all(head.is_distribution for head in self.heads)

    def loss(
        self, parameters: Tensor, value: Tensor, observed: Tensor, loc: Tensor, scale: Tensor
    ) -> Tensor:
        """Mean over the observed values of each target, then over the targets.

        Args:
            parameters: (…, size).
            value, observed: (…, targets); missing values do not count.
            loc, scale: (…, targets), or broadcast to that.
        """
        losses = []
        loc, scale = loc.expand_as(value), scale.expand_as(value)
        for k, (head, part) in enumerate(self._parts(parameters)):
            each = head.loss(part, value[..., k], loc[..., k], scale[..., k])
            seen = observed[..., k]
            losses.append((each * seen).sum() / seen.sum().clamp_min(1.0))
        return torch.stack(losses).mean()

    def forecast(
        self, parameters: Tensor, levels: Tensor, loc: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means (…, targets) and quantiles (…, targets, levels)."""
        parts = list(self._parts(parameters))
        mean = [h.mean(p, loc[..., k], scale[..., k]) for k, (h, p) in enumerate(parts)]
        quantiles = [
            h.quantiles(p, levels, loc[..., k], scale[..., k]) for k, (h, p) in enumerate(parts)
        ]
        return torch.stack(mean, -1), torch.stack(quantiles, -2)

    def sample(self, parameters: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """One draw of each target and its mean, (…, targets) each."""
        parts = list(self._parts(parameters))
        drawn = [h.sample(p, loc[..., k], scale[..., k]) for k, (h, p) in enumerate(parts)]
        mean = [h.mean(p, loc[..., k], scale[..., k]) for k, (h, p) in enumerate(parts)]
        return torch.stack(drawn, -1), torch.stack(mean, -1)

    def _parts(self, parameters: Tensor) -> list[tuple[Head, Tensor]]:
        parts = torch.split(parameters, [head.size for head in self.heads], -1)
        return list(zip(self.heads, parts, strict=True))


def level_weights(levels: Sequence[float]) -> list[float]:
    """Share of the whole distribution that each quantile stands for; they sum to 1.

    Example:
        >>> level_weights([0.25, 0.5, 0.75])
        [0.375, 0.25, 0.375]
    """
    middles = [(a + b) / 2 for a, b in pairwise(levels)]
    return [b - a for a, b in zip([0.0, *middles], [*middles, 1.0], strict=True)]


def _head(name: str, levels: Sequence[float]) -> Head:
    if name == "quantiles":
        return Quantiles(levels)
    if name in ("mse", "mae"):
        return Point(name)
    if name == "gaussian":
        return Gaussian()
    return StudentHead() if name == "student_t" else NegativeBinomialHead()


def _sampled_quantiles(
    head: Head, parameters: Tensor, levels: Tensor, loc: Tensor, scale: Tensor
) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = (SAMPLES, *parameters.shape)
        drawn = head.sample(parameters.expand(shape), loc, scale)
    return drawn.quantile(levels, dim=0).movedim(0, -1)
