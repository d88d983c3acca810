"""Which rows a scan works on at each step, and where they lie: lengths, direction, groups.

Rows of a full batch lie as they come, step after step: row t·batch + b. Rows of a ragged batch are
packed, so that time goes into real steps only: within each group of rows, the longest first, step
after step, and nothing in between. Groups are for threads that share the batch; they are dealt the
rows in turn, so that each gets as much.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from recurra.kernels.cpu.rows import Table, lay_out


class Rows(NamedTuple):
    """Rows of numbers, as they lie or by their places.

    Attributes:
        numbers: (…, columns), columns side by side, rows any distance apart.
        places: (rows,) int64 below the number of rows: which of them comes next; None: each in
            turn.
        first: without places, the row that comes first.
    """

    numbers: Tensor
    places: Tensor | None = None
    first: int = 0


@dataclass(frozen=True, eq=False)
class Schedule:
    """Rows at each step.

    All tables lie in one memory, so that a call asks torch for one tensor, and takes addresses in
    it; who needs a table as a tensor finds it by its name.

    Attributes:
        time, batch: of the padded batch.
        groups: how many groups of rows.
        rows: how many rows are kept.
        initial_row: first row of the initial states in a buffer of states, which has one for each
            row that is kept and for each of the batch.
        output_row: first row in it of the results.
        numbers: int64, all tables.
        where: of each table there is, by name, the first of its numbers and its shape.
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

    @property
    def is_full(self) -> bool:
        """Whether all rows are as long as the batch."""
        return "index" not in self.where

    @cached_property
    def first_rows(self) -> Tensor:
        """(groups + 1,), the first row of each group among the batch's, and how many there are."""
        return self._table("first_rows")

    @cached_property
    def tables(self) -> Tensor:
        """(groups, time, 6), for each step in the order of the scan, TABLE_COLUMNS.

        Rows at work; first of them among what is kept per step; first of their new states and
        first of their old ones in a buffer of states; the same where that has two steps in turn.
        """
        return self._table("tables")

    @cached_property
    def order(self) -> Tensor:
        """(batch,), which of the batch's rows each row of the groups is."""
        return self._table("order")

    @cached_property
    def last(self) -> Tensor:
        """(batch,), where in a buffer of states each row of `order` has its last state."""
        return self._table("last")

    @cached_property
    def last_of_two(self) -> Tensor:
        """(batch,), `last` in a buffer that holds a state for two steps in turn."""
        return self._table("last_of_two")

    @cached_property
    def lengths(self) -> Tensor:
        """(batch,), real steps of each row of `order`, of a ragged batch."""
        return self._table("lengths")

    @cached_property
    def index(self) -> Tensor | None:
        """(kept rows,), for each row that is kept its place t·batch + b; None: itself."""
        return None if self.is_full else self._table("index")[: self.rows]

    @cached_property
    def previous(self) -> Tensor | None:
        """(kept rows,), where in a buffer of states the old state of each row that is kept is.

        None where the batch is full, since there they follow one another.
        """
        return None if self.is_full else self._table("previous")[: self.rows]

    @cached_property
    def kept(self) -> Tensor:
        """(time·batch,), on the CPU, of a ragged batch: where each step of each row is kept.

        -1 if it is none.
        """
        return self._table("kept")

    def _table(self, name: str) -> Tensor:
        first, shape = self.where[name]
        return self.numbers.narrow(0, first, prod(shape)).view(shape)

    @cached_property
    def address(self) -> int:
        """Where `numbers` lie."""
        return self.numbers.data_ptr()

    def on(self, device: torch.device) -> "Schedule":
        """The same on another device than the CPU, brought there once; but for `kept`."""
        if device not in self._elsewhere:
            used = self.numbers if self.is_full else self.numbers[: self.where["kept"][0]]
            self._elsewhere[device] = replace(self, numbers=used.to(device))
        return self._elsewhere[device]

    @cached_property
    def _elsewhere(self) -> dict[torch.device, "Schedule"]:
        return {}


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
        "first_rows": first_rows,
        "tables": torch.stack([counts.expand_as(row), row, new, old, *turns], dim=-1),
        "order": order,
        "last": (0 if is_reverse else time * batch) + order,
        "last_of_two": time % 2 * batch + order,
    }
    ends = list(accumulate(table.numel() for table in found.values()))
    places = zip(found, [0, *ends], found.values(), strict=False)
    return Schedule(
        time=time,
        batch=batch,
        groups=groups,
        rows=time * batch,
        initial_row=time * batch if is_reverse else 0,
        output_row=0 if is_reverse else batch,
        is_reverse=is_reverse,
        numbers=torch.cat([table.flatten() for table in found.values()]),
        where={name: (place, tuple(table.shape)) for name, place, table in places},
    )


@lru_cache(maxsize=32)
def _ragged(time: int, lengths: tuple[int, ...], groups: int, is_reverse: bool) -> Schedule:
    """Kept for a while: all layers and directions of a network run the same one."""
    batch = len(lengths)
    numbers, where = lay_out(time, groups, lengths, is_reverse=is_reverse)
    return Schedule(
        *(time, batch, groups, sum(lengths)),
        initial_row=0,
        output_row=batch,
        is_reverse=is_reverse,
        numbers=numbers,
        where=where,
    )
