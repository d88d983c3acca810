"""A scan by generated kernels: what happens around the loop, on any machine.

The input's product runs over all steps at once, before the loop, or in it, where a machine finds
that faster. Of a ragged batch only real steps are kept, row behind row. What is laid out otherwise,
inputs and results, is gathered and spread: by the loop, where it can.
"""

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.form import Form, Machine, kept_widths
from recurra.kernels.plan import Options, Plan
from recurra.kernels.schedule import Schedule, make_schedule
from recurra.reference import Controls, Parameters, Tensors


class Ordered(NamedTuple):
    """What acts on a scan, laid out as its rows are.

    Attributes:
        mask: (batch, output), or None.
        zoneout: for each state its share's memory, and how far apart its kept rows and its batch's
            rows are in numbers; or None.
        resets: (kept rows,) uint8, whether the state is set back before that row's step; or None.
    """

    mask: Tensor | None
    zoneout: tuple[tuple[Tensor, int, int] | None, ...]
    resets: Tensor | None


_NOTHING = Ordered(None, (), None)


class Wishes(NamedTuple):
    """What a scan is asked for, besides its tensors; see `Options`."""

    all_states: bool
    needs_gradient: bool
    in_bfloat16: bool = False


class Sizes:
    """What is known of a scan before its rows and its tensors are there.

    Made once for each form, so that a call decides nothing anew: a small layer's whole step takes
    as long as a hundred decisions.

    Attributes:
        form: sizes and code.
        inputs: columns of the input.
        is_full: whether all rows are as long as the batch.
        takes_input, gives_input: whether the loop multiplies the input, and makes its gradient.
        kept: name, whether it has a row for each that is kept or for each of the batch, and columns
            of what the loop keeps. The gates only if the loop makes them: else each step's are in
            the place of those before.
        states: of each state's buffer a name if it is scratch, how many times the batch it has, and
            columns. A state is there at every step, or at two in turn; and the initial one. Two in
            turn overwrite that, so a scan with resets has room for it behind them.
        sequences: the states whose sequences are results.
    """

    def __init__(self, form: Form, inputs: int, *, is_full: bool, has_rows: bool) -> None:
        """`has_rows`: whether steps read inputs by number; see `Controls.rows`."""
        self.form, self.inputs, self.is_full = form, inputs, is_full
        self.takes_input = not has_rows and form.takes_input(inputs)
        self.gives_input = not has_rows and form.gives_input(inputs)
        options = form.options
        own = options.needs_gradient
        self.kept = [(name, own, n) for name, n in form.kept.items() if name != "gates"]
        if self.takes_input and "gates" in form.kept:
            self.kept.append(("gates", True, form.kept["gates"]))
        self.states = [
            ("", 1, size)
            if form.keeps_sequence[k]
            else (f"scan states{k}", 2 + options.has_reset, size)
            for k, size in enumerate(form.state_sizes)
        ]
        self.sequences = range(len(form.cell.states) if options.all_states else 1)


class Outline(NamedTuple):
    """What is known of a scan before its tensors are there: sizes and code, and its rows.

    Most batches are full and have no masks; of these each size has one outline.
    """

    sizes: Sizes
    schedule: Schedule

    @property
    def form(self) -> Form:
        return self.sizes.form


class Scan(NamedTuple):
    """A scan with all that its passes read besides the weights they multiply by.

    Attributes:
        outline: what is known without its tensors.
        controls: masks and resets in the order of the rows.
        initial: the states that it begins with.
        kept: what the forward pass keeps for every row, by name.
        states: of every step, or of two in turn, with room for the initial ones.
        rows: (kept rows,) int64, which distinct input each row that is kept reads; None: its own.
    """

    outline: Outline
    controls: Ordered
    initial: Tensors
    kept: dict[str, Tensor]
    states: Tensors
    rows: Tensor | None = None

    @property
    def form(self) -> Form:
        return self.outline.form

    @property
    def schedule(self) -> Schedule:
        return self.outline.schedule


def options_for(
    cell: Cell,
    controls: Controls,
    all_states: bool,
    needs_gradient: bool,
    in_bfloat16: bool = False,
) -> Options:
    """What a scan's kernels must be able to do."""
    zoneout = controls.zoneout
    return Options(
        zoneout=tuple([z is not None for z in zoneout]) or (False,) * len(cell.states),
        has_mask=controls.hidden_mask is not None and cell.recurrent,
        has_reset=controls.reset is not None,
        all_states=all_states and len(cell.states) > 1,
        needs_gradient=needs_gradient,
        in_bfloat16=in_bfloat16,
    )


def outline_for(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    machine: Machine,
    wishes: Wishes,
) -> Outline:
    """The outline of a scan of these tensors.

    They are float32 on the machine and of the right shapes; time and batch are above zero.
    """
    lengths, reset, is_reverse, mask, zoneout, rows = controls
    time, batch = (x if rows is None else rows).shape[:2]
    hidden, output = parameters.weight_ih.shape[0] // len(cell.gates), state[0].shape[-1]
    shape, setting = (batch, x.shape[-1], hidden, output), machine.setting(x)
    is_full, has_rows = lengths is None, rows is not None
    if reset is mask is None and not zoneout:
        sizes = _plain_sizes(cell, machine, setting, wishes, *shape, is_full, has_rows)
    else:
        options = options_for(cell, controls, *wishes)
        sizes = _sizes(cell, machine, setting, options, *shape, is_full, has_rows)
    groups = sizes.form.groups
    schedule = make_schedule(time, batch, lengths, groups, is_reverse=is_reverse)
    return Outline(sizes, schedule if x.is_cpu else schedule.on(x.device))


@lru_cache(maxsize=256)
def _plain_sizes(
    cell: Cell, machine: Machine, setting: Hashable, wishes: Wishes, *shape: int
) -> Sizes:
    """Without masks and resets."""
    return _sizes(cell, machine, setting, options_for(cell, Controls(), *wishes), *shape)


@lru_cache(maxsize=1024)
def _sizes(
    cell: Cell,
    machine: Machine,
    setting: Hashable,
    options: Options,
    batch: int,
    inputs: int,
    hidden: int,
    output: int,
    is_full: bool,
    has_rows: bool,
) -> Sizes:
    form = machine.form(cell, options, batch, hidden, output, setting)
    return Sizes(form, inputs, is_full=is_full, has_rows=has_rows)


def scan_forward(
    outline: Outline, x: Tensor, state: Tensors, parameters: Parameters, controls: Controls
) -> tuple[Tensors, Tensors, Scan]:
    """Sequences of states (of the first only, without `all_states`), last states, and the scan."""
    sizes, schedule = outline
    form, own, batch, rows = sizes.form, schedule.rows, schedule.batch, None
    kept = {name: form.room(name, own if each else batch, n) for name, each, n in sizes.kept}
    if sizes.takes_input:
        given, gates = as_rows(x), kept.get("gates")
    else:
        given, weight, bias = None, parameters.weight_ih, _input_bias(form.plan, parameters)
        if controls.rows is not None:
            rows = gather_rows(controls.rows.unsqueeze(-1), schedule).view(-1)
            gates = form.linear(x, weight, bias, is_full=False).index_select(0, rows)
        else:
            flat = in_rows(form, x, schedule)
            flat = flat.view(-1, sizes.inputs) if flat.dim() > 2 else flat
            gates = form.linear(flat, weight, bias, is_full=sizes.is_full)
        if "gates" in form.kept:
            kept["gates"] = gates
    states = tuple(
        [
            form.scratch(name, times * batch, size) if name else x.new_empty(own + batch, size)
            for name, times, size in sizes.states
        ]
    )
    run = Scan(outline, _ordered(form, schedule, controls), state, kept, states, rows)
    sequences, last = form.run_forward(run, parameters, gates, given)
    return sequences, last, run


def reopen(outline: Outline, state: Tensors, controls: Controls, buffers: Sequence[Tensor]) -> Scan:
    """A scan that was run, from what its `kept_buffers` held; they may have more rows by now."""
    form = outline.form
    kept = dict(zip(form.kept, buffers, strict=False))
    states = tuple(buffers[len(kept) :])
    return Scan(outline, _ordered(form, outline.schedule, controls), state, kept, states)


def kept_buffers(run: Scan) -> list[Tensor]:
    """What a backward pass needs of a forward one, besides its arguments."""
    return [*(run.kept[name] for name in run.form.kept), *run.states]


def kept_shapes(
    plan: Plan, time: int, batch: int, hidden: int, output: int
) -> list[tuple[int, int]]:
    """The shapes of `kept_buffers` if all rows are full."""
    widths = kept_widths(plan, hidden, output).values()
    sizes = [output] + [hidden] * (len(plan.cell.states) - 1)
    kept = [(time * batch, blocks * size) for blocks, size in widths]
    return [*kept, *(((time + 1) * batch, size) for size in sizes)]


# -- buffers ---------------------------------------------------------------------------------------


def _input_bias(plan: Plan, parameters: Parameters) -> Tensor | None:
    """b_ih, and b_hh too for the gates that only use the sum."""
    bias, other = parameters.bias_ih, parameters.bias_hh
    if bias is None or other is None or not plan.folded:
        return bias
    gates = len(plan.cell.gates)
    if len(plan.folded) == gates:
        return bias + other
    total = bias.clone().view(gates, -1)
    for k in plan.folded:
        total[k] += other.view(gates, -1)[k]
    return total.view(-1)


def gather_rows(sequence: Tensor, schedule: Schedule) -> Tensor:
    """(time, batch, size) as the rows that are kept."""
    rows = sequence.reshape(schedule.time * schedule.batch, -1)
    return rows if schedule.places is None else rows.index_select(0, schedule.places.tensor())


def as_rows(sequence: Tensor) -> Tensor:
    """(time, batch, size) as rows t·batch + b, their columns side by side."""
    if sequence.is_contiguous():
        return sequence  # a view of it would be a hundredth of a small layer's step
    rows = sequence.flatten(0, 1)
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def in_rows(form: Form, sequence: Tensor, schedule: Schedule) -> Tensor:
    """(time, batch, size) as kernels read it: the rows that are kept, their columns side by side.

    As far apart as `stride(-2)` says.
    """
    if schedule.places is None:
        return as_rows(sequence)
    return form.gather(as_rows(sequence), schedule.places)


def gather_batch(rows: Tensor, schedule: Schedule) -> Tensor:
    """(batch, size) in the order of the groups."""
    return rows if schedule.is_full else rows.index_select(0, schedule.order)


def _ordered(form: Form, schedule: Schedule, controls: Controls) -> Ordered:
    mask, zoneout, reset = None, controls.zoneout, controls.reset
    if not zoneout and not form.options.has_mask and reset is None:
        return _NOTHING
    if form.options.has_mask and controls.hidden_mask is not None:
        expanded = controls.hidden_mask.expand(schedule.batch, form.output)
        mask = gather_batch(expanded, schedule).contiguous()
    shares = zip(zoneout, form.state_sizes, strict=bool(zoneout))
    return Ordered(
        mask,
        tuple([None if share is None else _zoneout(schedule, share, n) for share, n in shares]),
        None if reset is None else _reset_rows(schedule, reset),
    )


def _zoneout(schedule: Schedule, share: Tensor, size: int) -> tuple[Tensor, int, int]:
    """A share's memory, and how far apart its kept rows and its batch rows are."""
    full = share.expand(schedule.time, schedule.batch, size)
    shape = (1,) * (3 - share.dim()) + tuple(share.shape)
    if shape[0] > 1:
        return gather_rows(full, schedule).contiguous(), size, 0
    if shape[1] > 1:
        return gather_batch(full[0], schedule).contiguous(), 0, size
    return full[0, 0].contiguous(), 0, 0


def _reset_rows(schedule: Schedule, reset: Tensor) -> Tensor:
    """(kept rows,) uint8: whether the state is set back before that row's step."""
    if schedule.is_reverse:
        reset = torch.cat([reset[1:], torch.zeros_like(reset[:1])])
    return gather_rows(reset.unsqueeze(-1).to(torch.uint8), schedule).view(-1).contiguous()


# -- results ---------------------------------------------------------------------------------------


def full_sequence(run: Scan, k: int) -> Tensor:
    """A state after each step of a full batch, (time, batch, size), in the memory of its buffer."""
    schedule, states, size = run.outline.schedule, run.states[k], run.form.state_sizes[k]
    shape = (schedule.time, schedule.batch, size)
    stride = (schedule.batch * size, size, 1)
    # memory is shared with the buffer, but the result is no view, so it may be written to
    return states.as_strided(shape, stride, schedule.output_row * size).data
