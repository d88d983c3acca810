"""A scan by compiled kernels: what happens around the loop.

The input's product runs over all steps at once, before the loop. Rows of a ragged batch are
gathered first and scattered last, so that time goes into real steps only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.cpu.code import Code, forward_code, plan_for, system_arguments, tile_table
from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.products import linear, pack
from recurra.kernels.cpu.threads import thread_limit
from recurra.kernels.plan import Options, Plan
from recurra.kernels.schedule import Schedule, make_schedule
from recurra.reference import Controls, Parameters, Tensors

# With more bytes of R than this, threads share its units instead of the batch's rows. Up to there
# both take the same time on an idle machine; on a busy one, rows of their own keep threads from
# waiting for each other at every step.
SHARED_CACHE_BYTES = 2_000_000


class Block(NamedTuple):
    """A buffer of rows of blocks, and the distance of its blocks."""

    rows: Tensor
    block: int


@dataclass
class Scan:
    """A scan whose forward pass was run, with all that its backward pass needs."""

    cell: Cell
    options: Options
    host: Host
    schedule: Schedule
    share: int
    hidden: int
    output: int
    buffers: dict[str, Block] = field(default_factory=dict)
    zoneout: dict[str, tuple[Tensor, int, int]] = field(default_factory=dict)
    resets: Tensor | None = None

    @property
    def plan(self) -> Plan:
        return plan_for(self.cell, self.options)

    @property
    def threads(self) -> int:
        return self.schedule.groups * self.share

    def state_size(self, k: int) -> int:
        return self.output if k == 0 else self.hidden

    def padded(self, size: int) -> int:
        return -(-size // self.host.lanes) * self.host.lanes

    def keeps_sequence(self, k: int) -> bool:
        """Whether a state is there for every step, or only for the last two."""
        return k == 0 or self.options.needs_gradient or self.options.all_states

    def states(self, k: int) -> Tensor:
        return self.buffers[f"states{k}"].rows


def options_for(
    cell: Cell, controls: Controls, *, all_states: bool, needs_gradient: bool
) -> Options:
    """What a scan's kernels must be able to do."""
    zoneout = controls.zoneout or (None,) * len(cell.states)
    return Options(
        zoneout=tuple(z is not None for z in zoneout),
        has_mask=controls.hidden_mask is not None and cell.recurrent,
        has_reset=controls.reset is not None,
        all_states=all_states and len(cell.states) > 1,
        needs_gradient=needs_gradient,
    )


def scan_forward(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    options: Options,
    host: Host,
) -> tuple[Tensors, Tensors, Scan]:
    """Sequences of states (of the first only, without `all_states`), last states, and the scan.

    All tensors are float32 on the CPU and of the right shapes; time and batch are above zero.
    """
    run = _open(cell, x, state, parameters, controls, options, host)
    _fill_kept(run, x, state, parameters)
    call(run, forward_code(cell, options, host), _forward_weights(run, parameters), {})
    count = len(state) if options.all_states else 1
    sequences = tuple(_sequence(run, k) for k in range(count))
    return sequences, tuple(_last(run, k) for k in range(len(state))), run


def reopen(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    options: Options,
    host: Host,
    kept: Sequence[Tensor],
) -> Scan:
    """A scan that was run, from what its `kept_buffers` held; they may have more rows by now."""
    run = _open(cell, x, state, parameters, controls, options, host)
    for (name, size), rows in zip(_block_sizes(run).items(), kept, strict=True):
        run.buffers[name] = Block(rows, size)
    return run


def kept_buffers(run: Scan) -> list[Tensor]:
    """What a backward pass needs of a forward one, besides its arguments."""
    return [run.buffers[name].rows for name in _block_sizes(run)]


def kept_shapes(
    plan: Plan, time: int, batch: int, hidden: int, output: int
) -> list[tuple[int, int]]:
    """The shapes of `kept_buffers` if all rows are full."""
    widths = _kept_widths(plan, hidden, output)
    shapes = [(time * batch, blocks * size) for blocks, size in widths.values()]
    sizes = [output] + [hidden] * (len(plan.cell.states) - 1)
    return shapes + [((time + 1) * batch, size) for size in sizes]


def _block_sizes(run: Scan) -> dict[str, int]:
    widths = _kept_widths(run.plan, run.hidden, run.output)
    states = {f"states{k}": run.state_size(k) for k in range(len(run.cell.states))}
    return {name: size for name, (_, size) in widths.items()} | states


def _kept_widths(plan: Plan, hidden: int, output: int) -> dict[str, tuple[int, int]]:
    """Blocks in a row, and their size, of what is kept per step besides the states."""
    cell, options = plan.cell, plan.options
    is_prepared = cell.recurrent and (options.has_mask or options.has_reset)
    widths = {
        "gates": (len(cell.gates), hidden),
        "saved": (plan.saved_blocks, hidden),
        "numbers": (plan.saved_numbers, 1),
        "saved_output": (plan.saved_output_blocks, output),
        "operand": (int(is_prepared), output),
        "late_operand": (int(bool(cell.late_gates)), hidden),
        "inner": (int(cell.output is not None), hidden),
    }
    return {name: (blocks, size) for name, (blocks, size) in widths.items() if blocks}


def _open(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    options: Options,
    host: Host,
) -> Scan:
    time, batch, _ = x.shape
    hidden = parameters.weight_ih.shape[0] // len(cell.gates)
    output = state[0].shape[-1]
    groups, share = _split(cell, batch, hidden, output, host)
    schedule = make_schedule(time, batch, controls.lengths, groups, is_reverse=controls.is_reverse)
    run = Scan(cell, options, host, schedule, share, hidden, output)
    _fill_constants(run, parameters)
    _fill_controls(run, controls)
    return run


def _split(cell: Cell, batch: int, hidden: int, output: int, host: Host) -> tuple[int, int]:
    """Groups of rows, and threads in each.

    Groups need no waiting for one another, but each reads all of R at every step: with an R that
    a core's own cache does not hold, or with too few rows, threads share the units instead.
    """
    threads = thread_limit()
    weights = 4 * len(cell.gates) * hidden * output * cell.recurrent
    if weights <= SHARED_CACHE_BYTES and batch >= 2 * threads:
        return threads, 1
    return 1, min(threads, max(1, hidden // (2 * host.lanes)))


# -- buffers ---------------------------------------------------------------------------------------


def _fill_kept(run: Scan, x: Tensor, state: Tensors, parameters: Parameters) -> None:
    """The input's product, the initial states, and room for what the loop will keep."""
    plan, schedule = run.plan, run.schedule
    count = schedule.rows if run.options.needs_gradient else schedule.batch
    for name, (blocks, size) in _kept_widths(plan, run.hidden, run.output).items():
        if name == "gates":
            bias = _input_bias(plan, parameters)
            rows = linear(gather_rows(x, schedule), parameters.weight_ih, bias)
        else:
            rows = x.new_empty(count, blocks * size)
        run.buffers[name] = Block(rows, size)
    for k, initial in enumerate(state):
        run.buffers[f"states{k}"] = Block(_state_buffer(run, k, initial), run.state_size(k))


def _fill_constants(run: Scan, parameters: Parameters) -> None:
    gates, zeros = len(run.cell.gates), parameters.weight_ih.new_zeros
    widest = run.padded(max(run.hidden, run.output))
    run.buffers["tile"] = Block(torch.empty(run.schedule.batch, gates * widest), widest)
    hidden, output = parameters.bias_hh, parameters.bias_hr
    hidden = zeros(gates * run.hidden) if hidden is None else hidden.contiguous()
    output = zeros(run.output) if output is None else output.contiguous()
    run.buffers["bias_hidden"] = Block(hidden.unsqueeze(0), run.hidden)
    run.buffers["bias_output"] = Block(output.unsqueeze(0), run.output)
    if parameters.vectors:
        run.buffers["vectors"] = Block(torch.cat(parameters.vectors).unsqueeze(0), run.hidden)


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
    return rows if schedule.index is None else rows.index_select(0, schedule.index)


def gather_batch(rows: Tensor, schedule: Schedule) -> Tensor:
    """(batch, size) in the order of the groups."""
    return rows if schedule.order is None else rows.index_select(0, schedule.order)


def _state_buffer(run: Scan, k: int, initial: Tensor) -> Tensor:
    """Memory for a state at every step, or at two in turn, with the initial one in place.

    Two in turn overwrite the initial state, so a scan with resets has it once more behind them.
    """
    schedule = run.schedule
    is_kept = run.keeps_sequence(k)
    rows = schedule.state_rows if is_kept else (2 + run.options.has_reset) * schedule.batch
    buffer = initial.new_empty(rows, initial.shape[-1])
    first = schedule.initial_row if is_kept else 0
    for place in dict.fromkeys((first, _start_row(run, k))):
        buffer[place : place + schedule.batch] = gather_batch(initial, schedule)
    return buffer


def _start_row(run: Scan, k: int) -> int:
    """Where the initial state stays through the whole scan, as far as a reset needs it."""
    if run.keeps_sequence(k):
        return run.schedule.initial_row
    return 2 * run.schedule.batch if run.options.has_reset else 0


def _fill_controls(run: Scan, controls: Controls) -> None:
    schedule = run.schedule
    if run.options.has_mask and controls.hidden_mask is not None:
        mask = controls.hidden_mask.expand(schedule.batch, run.output)
        run.buffers["mask"] = Block(gather_batch(mask, schedule).contiguous(), run.output)
    for k, share in enumerate(controls.zoneout):
        if share is not None:
            run.zoneout[f"zoneout{k}"] = _zoneout(schedule, share, run.state_size(k))
    if controls.reset is not None:
        run.resets = _reset_rows(schedule, controls.reset)


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


# -- the call --------------------------------------------------------------------------------------


def _forward_weights(run: Scan, parameters: Parameters) -> dict[str, Tensor]:
    gates = len(run.cell.gates)
    early = gates - len(run.cell.late_gates)
    weights = {}
    if parameters.weight_hh is not None:
        blocks = parameters.weight_hh.view(gates, run.hidden, run.output)
        weights["early"] = pack(blocks[:early], run.host, "early")
        if run.cell.late_gates:
            weights["late"] = pack(blocks[early:], run.host, "late")
    if parameters.weight_hr is not None:
        weights["output"] = pack(parameters.weight_hr.unsqueeze(0), run.host, "output")
    return weights


def call(run: Scan, code: Code, weights: Mapping[str, Tensor], more: Mapping[str, int]) -> None:
    """Run one pass on the scan's buffers."""
    schedule = run.schedule
    schedule_tables = schedule.tables_for(keeps_all=run.keeps_sequence(1))
    barriers = torch.zeros(run.threads, 8, dtype=torch.int64)
    size = run.padded(run.hidden) * code.scratch_blocks
    scratch = torch.empty(run.threads * size)
    arguments = system_arguments() | {
        "steps": schedule.time,
        "hidden": run.hidden,
        "output": run.output,
        "tables": schedule_tables.data_ptr(),
        "first_rows": schedule.first_rows.data_ptr(),
        "barriers": barriers.data_ptr(),
        "tiles": tile_table(run.host)[0].data_ptr(),
        "scratch": scratch.data_ptr(),
        "scratch_thread": size,
        "resets": 0 if run.resets is None else run.resets.data_ptr(),
    }
    _add_buffers(run, arguments)
    for name, weight in weights.items():
        arguments[f"weight.{name}"] = weight.data_ptr()
    arguments.update(more)
    code.call(arguments, schedule.groups, run.share)


def _add_buffers(run: Scan, arguments: dict[str, int]) -> None:
    for name, (rows, block) in run.buffers.items():
        arguments.update(place(name, rows, block))
    for name, (share, row, batch) in run.zoneout.items():
        arguments |= {f"{name}.at": share.data_ptr(), f"{name}.row": row, f"{name}.batch": batch}
    for k in range(len(run.cell.states)):
        states = run.states(k)
        arguments.update(place(f"state{k}", states))
        arguments.update(place(f"previous{k}", states))
        arguments[f"start{k}"] = states.data_ptr() + 4 * _start_row(run, k) * states.stride(0)


def place(name: str, rows: Tensor, block: int = 0) -> dict[str, int]:
    """The arguments that tell a kernel where a buffer is."""
    at, row, blocks = _names(name)
    return {at: rows.data_ptr(), row: rows.stride(0), blocks: block}


@cache
def _names(buffer: str) -> tuple[str, str, str]:
    return f"{buffer}.at", f"{buffer}.row", f"{buffer}.block"


# -- results ---------------------------------------------------------------------------------------


def _sequence(run: Scan, k: int) -> Tensor:
    """A state after each step, (time, batch, size), zero past each row's length."""
    schedule, states = run.schedule, run.states(k)
    size, first = states.shape[-1], schedule.output_row
    if schedule.index is None:
        # memory is shared with the buffer, but the result is no view, so it may be written to
        result = states.new_empty(0)
        shape = (schedule.time, schedule.batch, size)
        stride = (schedule.batch * size, size, 1)
        return result.set_(states.untyped_storage(), first * size, shape, stride)
    result = states.new_zeros(schedule.time * schedule.batch, size)
    result.index_copy_(0, schedule.index, states[first : first + schedule.rows])
    return result.view(schedule.time, schedule.batch, size)


def last_rows(run: Scan, k: int) -> Tensor:
    """(batch,) int64: where each row's last state is, in the order of the groups."""
    schedule = run.schedule
    if run.keeps_sequence(k):
        return schedule.last
    steps = torch.full((schedule.batch,), schedule.time)
    if schedule.lengths is not None:
        steps = schedule.lengths
    return steps % 2 * schedule.batch + torch.arange(schedule.batch)


def _last(run: Scan, k: int) -> Tensor:
    schedule = run.schedule
    ordered = run.states(k).index_select(0, last_rows(run, k))
    if schedule.order is None:
        return ordered
    result = torch.empty_like(ordered)
    result[schedule.order] = ordered
    return result
