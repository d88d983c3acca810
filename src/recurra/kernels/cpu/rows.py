"""The rows of a ragged batch, laid out by generated code; see `schedule` for what they are."""

import ctypes
from array import array
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from math import prod

import torch
from torch import Tensor

from recurra.kernels.cpu.compiler import MachineCode, compile_cached
from recurra.kernels.cpu.host import find_host
from recurra.kernels.cpu.rows_code import (
    ARGUMENTS,
    SCHEDULE_ARGUMENTS,
    TABLE_COLUMNS,
    TABLES,
    build_layout,
)

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
    where, count, firsts = _places(time, len(lengths), groups)
    numbers, given = _new_numbers(count), array("q", lengths)
    values = _Values(
        *(time, len(lengths), groups, is_reverse),
        *(given.buffer_info()[0], numbers.data_ptr(), ctypes.addressof(firsts)),
    )
    run, _ = _code()
    run(ctypes.addressof(values))
    return numbers, where


@lru_cache(maxsize=256)
def _places(
    time: int, batch: int, groups: int
) -> tuple[Mapping[str, Table], int, ctypes.Array[ctypes.c_int64]]:
    """Where the tables lie, how many numbers they have if no row is shorter, and their firsts."""
    rows: dict[str, tuple[int, ...]] = dict.fromkeys(TABLES, (batch,))
    rows |= {"arguments": (len(SCHEDULE_ARGUMENTS),), "starts": (time + 1,)}
    rows |= {"first_rows": (groups + 1,), "tables": (groups, time, len(TABLE_COLUMNS))}
    rows |= dict.fromkeys(("places", "previous", "kept"), (time * batch,))
    where, count = table_places(rows)
    firsts = [first for first, _ in where.values()]
    return where, count, (ctypes.c_int64 * len(firsts))(*firsts)


def table_places(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Table], int]:
    """Where tables of these shapes lie, one behind the other, and how many numbers they have."""
    where, end = {}, 0
    for name, shape in shapes.items():
        where[name] = end, shape
        end += prod(shape)
    return where, end


@cache
def _code() -> tuple[Callable[[int], None], MachineCode]:
    machine = compile_cached("rows", "rows", build_layout, find_host())
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(machine.address("lay_out")), machine
