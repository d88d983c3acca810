"""The rows of a ragged batch, laid out by generated code; see `schedule` for what they are."""

import ctypes
from array import array
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

from recurra.kernels.cpu.compiler import MachineCode, compile_cached
from recurra.kernels.cpu.host import find_host
from recurra.kernels.cpu.rows_code import ARGUMENTS, TABLE_COLUMNS, TABLES, build_layout

Table = tuple[int, tuple[int, ...]]  # the first of its numbers, and its shape
_new_numbers = torch.empty(0, dtype=torch.int64, device="cpu").new_empty
_Values = ctypes.c_int64 * len(ARGUMENTS)


def lay_out(
    time: int, groups: int, lengths: tuple[int, ...], *, is_reverse: bool
) -> tuple[Tensor, Mapping[str, Table]]:
    """The tables of a `Schedule`: int64 numbers on the CPU, and where each lies among them.

    Args:
        time, groups, is_reverse: of the schedule.
        lengths: of each row, in 0..time.
    """
    where, count = _places(time, len(lengths), groups)
    numbers = _new_numbers(count)
    given, start = array("q", lengths), numbers.data_ptr()
    addresses = [start + 8 * first for first, _ in where.values()]
    sizes = time, len(lengths), groups, is_reverse
    values = _Values(*sizes, given.buffer_info()[0], *addresses)
    run, _ = _code()
    run(ctypes.addressof(values))
    return numbers, where


@lru_cache(maxsize=256)
def _places(time: int, batch: int, groups: int) -> tuple[Mapping[str, Table], int]:
    """Where the tables lie, and how many numbers they have, if no row were shorter."""
    rows: dict[str, tuple[int, ...]] = dict.fromkeys(TABLES, (batch,))
    rows |= {"first_rows": (groups + 1,), "tables": (groups, time, len(TABLE_COLUMNS))}
    rows |= dict.fromkeys(("places", "previous", "kept"), (time * batch,))
    rows["starts"] = (time + 1,)
    ends = list(accumulate(map(prod, rows.values())))
    firsts = zip(rows.items(), [0, *ends], strict=False)
    return {name: (first, shape) for (name, shape), first in firsts}, ends[-1]


@cache
def _code() -> tuple[Callable[[int], None], MachineCode]:
    machine = compile_cached("rows", "rows", build_layout, find_host())
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(machine.address("lay_out")), machine
