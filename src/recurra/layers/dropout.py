"""Random masks of 0 and 1, drawn fast on a CPU, and dropout by them."""

import torch
from torch import Tensor

from recurra.kernels.cpu.random import LEVELS, random_mask
from recurra.kernels.problem import is_watched


def bernoulli(like: Tensor, p: float) -> Tensor:
    """1 with probability p, else 0, each number by itself.

    On a CPU numbers are drawn by Philox (see `kernels.cpu.random_code`) with a key from torch's
    default generator, and p is rounded to a multiple of 2^-16. Elsewhere, and inside
    `torch.compile` or a transform of `torch.func`, they are torch's.

    Args:
        like: gives shape, dtype and device.
        p: in 0..1.
    """
    return _mask(like, p, 1.0)


def dropout(x: Tensor, p: float) -> Tensor:
    """Each number is dropped with probability p, and scaled by 1 / (1 - p) otherwise.

    The mean of the result is x: the scale is that of the share that is really kept, a multiple of
    2^-16 (see `bernoulli`).

    Args:
        x: of any shape.
        p: in 0..1.

    Example:
        >>> _ = torch.manual_seed(1)
        >>> dropout(torch.ones(6), 0.5).unique()
        tensor([0., 2.])
    """
    if p == 0:
        return x
    kept = round((1 - p) * LEVELS) / LEVELS
    if kept == 0:
        return x * 0.0
    return x * _mask(x.detach(), kept, 1 / kept)


def _mask(like: Tensor, p: float, value: float) -> Tensor:
    """`value` with probability p, else 0."""
    if not like.is_cpu or is_watched():
        return torch.bernoulli(torch.full_like(like, p)).mul_(value)
    seed = int(torch.empty((), dtype=torch.int64, device="cpu").random_(-(1 << 63), None))
    return random_mask(like.shape, round(p * LEVELS), value, seed).to(like.dtype)


def drop_columns(x: Tensor, p: float) -> Tensor:
    """Dropout with one mask (batch, input) for all steps of x, (time, batch, input)."""
    return x * dropout(x.new_ones(x.shape[1:]), p) if p else x


def zoneout_share(x: Tensor, shape: tuple[int, ...], p: float) -> Tensor | None:
    """The share of the old state that is kept: 0 or 1 in training, its mean p otherwise.

    Args:
        x: gives dtype and device.
        shape: of the mask; () in evaluation.
        p: probability that a unit keeps its old state.
    """
    if not p:
        return None
    return bernoulli(x.new_empty(shape), p) if shape else x.new_full((), p)
