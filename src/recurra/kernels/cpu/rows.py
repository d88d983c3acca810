"""The rows of a ragged batch, laid out by generated code; see `schedule` for what they are."""

import ctypes
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from recurra.kernels.cpu.compiler import MachineCode, compile_cached
from recurra.kernels.cpu.host import find_host
from recurra.kernels.cpu.rows_code import ARGUMENTS, COLUMNS, build_layout

_Values = ctypes.c_int64 * len(ARGUMENTS)


def lay_out(
    time: int, groups: int, lengths: tuple[int, ...], *, is_reverse: bool
) -> dict[str, Tensor]:
    """Fields of a `Schedule` by name, int64 on the CPU; and `real`, its `lengths`.

    Args:
        time, groups, is_reverse: of the schedule.
        lengths: of each row, in 0..time.
    """
    batch, rows = len(lengths), sum(lengths)
    sizes = {"starts": time + 1, "by_length": batch, "order": batch, "real": batch}
    sizes |= {"first_rows": groups + 1, "tables": groups * time * COLUMNS}
    sizes |= {"index": rows, "previous": rows, "kept": time * batch, "last": batch}
    memory = torch.empty(sum(sizes.values()), dtype=torch.int64, device="cpu")
    arrays = memory.split_with_sizes(tuple(sizes.values()))
    numbers = (ctypes.c_int64 * batch)(*lengths)
    addresses = [ctypes.addressof(numbers), *[a.data_ptr() for a in arrays]]
    values = _Values(time, batch, groups, is_reverse, *addresses)
    run, _ = _code()
    run(ctypes.addressof(values))
    found = dict(zip(sizes, arrays, strict=True))
    found["tables"] = found["tables"].view(groups, time, COLUMNS)
    return found


@cache
def _code() -> tuple[Callable[[int], None], MachineCode]:
    machine = compile_cached("rows", "rows", build_layout, find_host())
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(machine.address("lay_out")), machine
