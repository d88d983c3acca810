"""The facts that decide which backend may run a scan."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch._C import _len_torch_dispatch_stack
from torch._C._functorch import maybe_current_level
from torch.compiler import is_compiling

from recurra.cells import Cell


class Problem(NamedTuple):
    """A scan, described without its data: what a backend's `supports` looks at.

    Sizes are in units, `time` in steps; `output_size` is the size of `states[0]`. `is_transformed`
    is true while `torch.func` (vmap, jvp, grad) looks at the tensors.
    """

    cell: Cell
    time: int
    batch: int
    input_size: int
    hidden_size: int
    output_size: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    has_bias: bool = True
    has_lengths: bool = False
    has_reset: bool = False
    has_hidden_mask: bool = False
    has_zoneout: bool = False
    has_differentiable_mask: bool = False
    is_reverse: bool = False
    needs_gradient: bool = False
    all_states: bool = False
    is_transformed: bool = False


def device_of(x: Tensor) -> str:
    """The kind of device that a tensor is on; the name is made anew each time, but for the CPU."""
    return "cpu" if x.is_cpu else x.device.type


def is_watched() -> bool:
    """Whether new tensors may be of another kind: traced, fake, or of a transform's level."""
    if is_compiling():
        return True
    return maybe_current_level() is not None or _len_torch_dispatch_stack() > 0


class Support(NamedTuple):
    """A backend's answer: whether it runs the problem, and the reason in a few words."""

    ok: bool
    reason: str


class Explanation(NamedTuple):
    """Which backend runs a call, and what every other one answered."""

    chosen: str
    reasons: dict[str, str]

    def __str__(self) -> str:
        lines = [
            f"{'→' if name == self.chosen else ' '} {name:<10} {reason}"
            for name, reason in self.reasons.items()
        ]
        return "\n".join(lines)
