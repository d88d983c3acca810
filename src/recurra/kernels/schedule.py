"""Which rows a scan works on at each step, and where they lie: lengths, direction, groups.

Rows of a full batch lie as they come, step after step: row t·batch + b. Rows of a ragged batch are
packed, so that time goes into real steps only: within each group of rows, the longest first, step
after step, and nothing in between. Groups are for threads that share the batch; they are dealt the
rows in turn, so that each gets as much.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recurra.kernels.cpu.rows import lay_out

# What tables_for has of each step.
TABLE_COLUMNS = ("count", "row", "state", "previous", "other_state", "other_previous")


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


@dataclass(frozen=True)
class Schedule:
    """Rows at each step.

    Attributes:
        time, batch: of the padded batch.
        groups: how many groups of rows.
        first_rows: (groups + 1,) int64, the first row of each group among the batch's rows, and
            how many there are.
        tables: (groups, time, 6) int64, for each step in the order of the scan, TABLE_COLUMNS:
            rows at work; first of them among what is kept per step; first of their new states and
            first of their old ones in a buffer of states; the same again for states but the first.
        order: (batch,) int64, the batch's rows as the groups have them; None: as they come.
        lengths: (batch,) int64, real steps of each row of `order`; None: all are full.
        index: (kept rows,) int64, for each row that is kept its place t·batch + b; None: itself.
        kept: (time·batch,) int64 on the CPU, where each step of each row is kept, -1 if it is none;
            None: all are, as they come.
        previous: (kept rows,) int64, for each row that is kept where in a buffer of states its old
            state is; None where the batch is full, since there they follow one another.
        last: (batch,) int64, where in a buffer of states each row of `order` has its last state.
        rows: how many rows are kept.
        initial_row: first row of the initial states in a buffer of states, which has one for each
            row that is kept and for each of the batch.
        output_row: first row in it of the results.
    """

    time: int
    batch: int
    groups: int
    first_rows: Tensor
    tables: Tensor
    order: Tensor | None
    lengths: Tensor | None
    index: Tensor | None
    kept: Tensor | None
    previous: Tensor | None
    last: Tensor
    rows: int
    initial_row: int
    output_row: int
    is_reverse: bool

    def on(self, device: torch.device) -> "Schedule":
        """The same on another device than the CPU, brought there once; `kept` is read here only."""
        if device not in self._elsewhere:
            values = {f.name: getattr(self, f.name) for f in fields(self)}
            moved: dict[str, Any] = {
                k: v.to(device) for k, v in values.items() if isinstance(v, Tensor) and k != "kept"
            }
            self._elsewhere[device] = replace(self, **moved)
        return self._elsewhere[device]

    @cached_property
    def _elsewhere(self) -> dict[torch.device, "Schedule"]:
        return {}

    def tables_for(self, *, keeps_all: bool) -> Tensor:
        """`tables`.

        Args:
            keeps_all: states but the first are kept for every step, as that is; else for two in
                turn.
        """
        return self.tables if keeps_all else self._tables_of_two

    @cached_property
    def _tables_of_two(self) -> Tensor:
        steps = torch.arange(self.time, device=self.tables.device).unsqueeze(0)
        first = self.first_rows[:-1].unsqueeze(1)
        turns = [(steps + 1) % 2 * self.batch + first, steps % 2 * self.batch + first]
        return torch.cat([self.tables[:, :, :4], torch.stack(turns, dim=-1)], dim=-1)

    @cached_property
    def places(self) -> Tensor:
        """(batch,) int64: which of the batch's rows each row of the groups is."""
        if self.order is not None:
            return self.order
        return torch.arange(self.batch, device=self.tables.device)

    @cached_property
    def last_of_two(self) -> Tensor:
        """(batch,) int64: `last` in a buffer that holds a state for two steps in turn."""
        rows = torch.arange(self.batch, device=self.tables.device)
        steps = self.time if self.lengths is None else self.lengths
        return steps % 2 * self.batch + rows


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
    bounds = [batch * g // groups for g in range(groups + 1)]
    # on the CPU wherever the default device is: one schedule is kept for all of them
    first_rows = torch.tensor(bounds, device="cpu")
    first, counts = first_rows[:-1], first_rows.diff()
    steps = torch.arange(time, device="cpu")
    t = time - 1 - steps if is_reverse else steps
    row = t.unsqueeze(0) * batch + first.unsqueeze(1)
    new, old = (row, row + batch) if is_reverse else (row + batch, row)
    count = counts.unsqueeze(1).expand_as(row)
    tables = torch.stack([count, row, new, old, new, old], dim=-1)
    last = (0 if is_reverse else time * batch) + torch.arange(batch, device="cpu")
    return Schedule(
        time=time,
        batch=batch,
        groups=groups,
        first_rows=first_rows,
        tables=tables,
        order=None,
        lengths=None,
        index=None,
        kept=None,
        previous=None,
        last=last,
        rows=time * batch,
        initial_row=time * batch if is_reverse else 0,
        output_row=0 if is_reverse else batch,
        is_reverse=is_reverse,
    )


@lru_cache(maxsize=32)
def _ragged(time: int, lengths: tuple[int, ...], groups: int, is_reverse: bool) -> Schedule:
    """Kept for a while: all layers and directions of a network run the same one."""
    batch, found = len(lengths), lay_out(time, groups, lengths, is_reverse=is_reverse)
    return Schedule(
        time=time,
        batch=batch,
        groups=groups,
        first_rows=found["first_rows"],
        tables=found["tables"],
        order=found["order"],
        lengths=found["real"],
        index=found["index"],
        kept=found["kept"],
        previous=found["previous"],
        last=found["last"],
        rows=sum(lengths),
        initial_row=0,
        output_row=batch,
        is_reverse=is_reverse,
    )
