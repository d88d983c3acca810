"""Random masks on the CPU."""

import ctypes
import struct
from collections.abc import Sequence
from functools import cache

from torch import Tensor

from recurra.kernels.cpu.compiler import MachineCode, compile_cached
from recurra.kernels.cpu.host import Host, find_host
from recurra.kernels.cpu.random_code import MASK_ARGUMENTS, build_random
from recurra.kernels.cpu.scratch import new_numbers
from recurra.kernels.cpu.threads import team_functions, thread_limit

LEVELS = 1 << 16  # of a probability
# Below so many numbers, a second thread costs more than it does.
LEAST_SHARED = 50_000
_Values = ctypes.c_int64 * len(MASK_ARGUMENTS)


def random_mask(
    shape: Sequence[int], ones: int, value: float, seed: int, host: Host | None = None
) -> Tensor:
    """`value` with probability ones / 2¹⁶, else 0, each number by itself.

    Args:
        shape: of the mask, float32.
        ones: 0 to 2¹⁶.
        value: finite.
        seed: any 64-bit number; equal seeds give equal masks, on any processor.
        host: the code is for; by default this one.
    """
    host = host or find_host()
    result = new_numbers(tuple(shape))
    count = result.numel()
    values = _Values(  # in the order of MASK_ARGUMENTS
        count, result.data_ptr(), ones, struct.unpack("I", struct.pack("f", value))[0],
        seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, *team_functions(),
    )  # fmt: skip
    _code(host).run("mask", values, thread_limit() if count >= LEAST_SHARED else 1)
    return result


@cache
def _code(host: Host) -> MachineCode:
    return compile_cached("random", "random", lambda: build_random(host), host)
