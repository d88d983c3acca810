"""Which rows a scan works on at each step, and where they lie: lengths, direction, groups.

Rows of a full batch lie as they come, step after step: row t·batch + b. Rows of a ragged batch are
packed, so that time goes into real steps only: within each group of rows, the longest first, step
after step, and nothing in between. Groups are for threads that share the batch; they are dealt the
rows in turn, so that each gets as much.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from recurra.kernels.cpu.rows import Table, lay_out, table_places
from recurra.kernels.cpu.rows_code import SCHEDULE_ARGUMENTS


class Places:
    """Places of rows, int64 side by side in a longer memory.

    Kernels need an address only: a tensor is made for who asks, since a view takes a hundredth of a
    small layer's step.
    """

    __slots__ = ("_count", "_first", "_memory")

    def __init__(self, memory: Tensor, first: int, count: int) -> None:
        self._memory, self._first, self._count = memory, first, count

    def __len__(self) -> int:
        return self._count

    def data_ptr(self) -> int:
        """The address, as of a tensor."""
        return self._memory.data_ptr() + 8 * self._first

    def tensor(self) -> Tensor:
        """(count,) int64."""
        return self._memory[self._first : self._first + self._count]


class Rows(NamedTuple):
    """Rows of numbers, as they lie or by their places.

    Attributes:
        numbers: (…, columns), columns side by side, rows any distance apart.
        places: below the number of rows: which of them comes next; None: each in turn.
        first: without places, the row that comes first.
    """

    numbers: Tensor
    places: Places | None = None
    first: int = 0


class Schedule(NamedTuple):
    """Rows at each step.

    All tables are int64 and lie in one memory, so that a call asks torch for one tensor.

    Attributes:
        time, batch: of the padded batch.
        groups: how many groups of rows.
        rows: how many rows are kept.
        initial_row: first row of the initial states in a buffer of states, which has one for each
            row that is kept and for each of the batch.
        output_row: first row in it of the results.
        numbers: of all tables.
        where: of each table there is, by name, the first of its numbers and its shape. `arguments`
            is one of CPU code.
        is_full: whether all rows are as long as the batch.
        places: for each row that is kept its place t·batch + b; None: itself.
        previous: for each row that is kept where in a buffer of states its old state is; None where
            the batch is full, since there they follow one another.
        kept: for each t·batch + b where it is kept, -1 if it is no real step; on the CPU only;
            None: as they come.
        elsewhere: the same on other devices.
    """

    time: int
    batch: int
    groups: int
    rows: int
    initial_row: int
    output_row: int
    is_reverse: bool
    numbers: Tensor
    where: Mapping[str, Table]
    is_full: bool
    places: Places | None
    previous: Places | None
    kept: Places | None
    elsewhere: dict[torch.device, "Schedule"]

    @property
    def first_rows(self) -> Tensor:
        """(groups + 1,), the first row of each group among the batch's, and how many there are."""
        return self._table("first_rows")

    @property
    def tables(self) -> Tensor:
        """(groups, time, 6), for each step in the order of the scan, TABLE_COLUMNS.

        Rows at work; first of them among what is kept per step; first of their new states and
        first of their old ones in a buffer of states; the same where that has two steps in turn.
        """
        return self._table("tables")

    @property
    def order(self) -> Tensor:
        """(batch,), which of the batch's rows each row of the groups is."""
        return self._table("order")

    @property
    def last(self) -> Tensor:
        """(batch,), where in a buffer of states each row of `order` has its last state."""
        return self._table("last")

    @property
    def last_of_two(self) -> Tensor:
        """(batch,), `last` in a buffer that holds a state for two steps in turn."""
        return self._table("last_of_two")

    @property
    def lengths(self) -> Tensor:
        """(batch,), real steps of each row of `order`, of a ragged batch."""
        return self._table("lengths")

    def _table(self, name: str) -> Tensor:
        first, shape = self.where[name]
        return self.numbers[first : first + prod(shape)].view(shape)

    def on(self, device: torch.device) -> "Schedule":
        """The same on another device than the CPU, brought there once."""
        if device not in self.elsewhere:
            numbers = self.numbers
            if self.places is None:
                moved = self._replace(numbers=numbers.to(device))
            else:
                numbers = numbers[: self.where["kept"][0]].to(device)
                places, previous, _ = _places(numbers, self.where, self.rows)
                moved = self._replace(numbers=numbers, places=places, previous=previous)
            self.elsewhere[device] = moved
        return self.elsewhere[device]


def make_schedule(
    time: int, batch: int, lengths: Tensor | None, groups: int, *, is_reverse: bool
) -> Schedule:
    """The schedule of a scan.

    Args:
        time, batch: sizes of the padded batch.
        lengths: (batch,) int64 in 0..time, or None.
        groups: in how many groups to deal the rows.
        is_reverse: run from each row's last step to its first.
    """
    if lengths is None:
        return _full(time, batch, groups, is_reverse)
    return _ragged(time, tuple(lengths.tolist()), groups, is_reverse)


@lru_cache(maxsize=256)
def _full(time: int, batch: int, groups: int, is_reverse: bool) -> Schedule:
    # on the CPU wherever the default device is: one schedule is kept for all of them
    order, steps = torch.arange(batch, device="cpu"), torch.arange(time, device="cpu")
    first_rows = torch.tensor([batch * g // groups for g in range(groups + 1)], device="cpu")
    first, counts = first_rows[:-1].unsqueeze(1), first_rows.diff().unsqueeze(1)
    row = (time - 1 - steps if is_reverse else steps) * batch + first
    new, old = (row, row + batch) if is_reverse else (row + batch, row)
    turns = (steps + 1) % 2 * batch + first, steps % 2 * batch + first
    found = {
        "arguments": torch.zeros(len(SCHEDULE_ARGUMENTS), dtype=torch.int64, device="cpu"),
        "first_rows": first_rows,
        "tables": torch.stack([counts.expand_as(row), row, new, old, *turns], dim=-1),
        "order": order,
        "last": (0 if is_reverse else time * batch) + order,
        "last_of_two": time % 2 * batch + order,
    }
    where, _ = table_places({name: tuple(table.shape) for name, table in found.items()})
    numbers = torch.cat([table.flatten() for table in found.values()])
    start, tables = numbers.data_ptr(), list(SCHEDULE_ARGUMENTS.values())[1:]
    addresses = [start + 8 * where[name][0] if name in where else 0 for name in tables]
    numbers[: len(SCHEDULE_ARGUMENTS)] = torch.tensor([time, *addresses], device="cpu")
    return Schedule(
        time=time,
        batch=batch,
        groups=groups,
        rows=time * batch,
        initial_row=time * batch if is_reverse else 0,
        output_row=0 if is_reverse else batch,
        is_reverse=is_reverse,
        numbers=numbers,
        where=where,
        is_full=True,
        places=None,
        previous=None,
        kept=None,
        elsewhere={},
    )


@lru_cache(maxsize=32)
def _ragged(time: int, lengths: tuple[int, ...], groups: int, is_reverse: bool) -> Schedule:
    """Kept for a while: all layers and directions of a network run the same one."""
    batch, rows = len(lengths), sum(lengths)
    numbers, where = lay_out(time, groups, lengths, is_reverse=is_reverse)
    return Schedule(
        *(time, batch, groups, rows, 0, batch, is_reverse, numbers, where, False),
        *_places(numbers, where, rows),
        {},
    )


def _places(
    numbers: Tensor, where: Mapping[str, Table], rows: int
) -> tuple[Places, Places, Places]:
    """`places`, `previous` and `kept`."""
    kept, shape = where["kept"]
    return (
        Places(numbers, where["places"][0], rows),
        Places(numbers, where["previous"][0], rows),
        Places(numbers, kept, *shape),
    )
