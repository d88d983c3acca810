"""The loop on a GPU: how a scan is cut into programs, and the call of its kernels."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.form import Form
from recurra.kernels.gradient import Back
from recurra.kernels.plan import Options
from recurra.kernels.planner import plan_for
from recurra.kernels.scan import Scan, full_sequence, gather_batch, in_rows
from recurra.kernels.schedule import Rows
from recurra.kernels.triton.code import Code, code_for
from recurra.kernels.triton.emitter import COUNTER_SPACING, needs_joins, power_of_two
from recurra.reference import Parameters, Tensors

# Of a multiprocessor's shared memory: what of R a program may keep to itself through all steps, and
# what it may read ahead (64 and 199 KiB on an H100). With an R that one program keeps whole, none
# has to wait for others.
RESIDENT_SHARE, AHEAD_SHARE = 2 / 7, 7 / 8
H100_BYTES = 227 << 10
MOST_OPERAND = 16384  # numbers of h that a program holds in registers at once


def is_interpreted() -> bool:
    """Whether Triton only interprets kernels, on the CPU: slow, for tests (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@dataclass(frozen=True, eq=False)
class TritonForm(Form):
    """A form whose workers are GPU programs.

    Attributes:
        device: where.
        precision: of products in float32, in Triton's words.
        block_rows, block_units, block_depth, is_resident: see `emitter`.
        warps, stages: of a program; how many blocks of depth it reads ahead.
        most_programs: how many run at once for certain.
    """

    device: torch.device
    precision: str
    block_rows: int
    block_units: int
    block_depth: int
    is_resident: bool
    warps: int
    stages: int
    most_programs: int

    @cached_property
    def zeros(self) -> Tensor:
        """Stands for a bias that is not there."""
        return torch.zeros(len(self.cell.gates) * self.hidden + self.output, device=self.device)

    @cached_property
    def sizes(self) -> tuple[Any, ...]:
        """In the order of `emitter.SIZES`."""
        wide = [power_of_two(n) for n in (self.hidden, self.output)]
        at_once = max(1, min(-(-self.block_rows // self.share), 1024 // max(wide)))
        at_once = 1 << (at_once.bit_length() - 1)
        cache = ".cg" if self.share > 1 else ""
        return (
            *(self.hidden, self.output, self.share, self.block_rows, self.block_units),
            *(self.block_depth, max(self.hidden, self.output), *wide, at_once, cache),
            *(self.precision, self.is_resident),
        )

    # -- memory, and products over all steps at once ----------------------------------------------

    def room(self, name: str, rows: int, columns: int) -> Tensor:
        return torch.empty(rows, columns, device=self.device)

    def scratch(self, name: str, rows: int, columns: int) -> Tensor:
        return torch.empty(rows, columns, device=self.device)

    def linear(self, rows: Tensor, weight: Tensor, bias: Tensor | None, *, is_full: bool) -> Tensor:
        product = self._product(rows, weight.t())
        return product if bias is None else product.add_(bias)

    def times(self, rows: Tensor, weight: Tensor, *, is_full: bool) -> Tensor:
        return self._product(rows, weight)

    def sums_of_products(self, left: Tensor, rights: Sequence[Rows]) -> list[tuple[Tensor, Tensor]]:
        found = []
        for numbers, places, first in rights:
            flat = numbers.flatten(0, -2)
            own = flat[first : first + len(left)] if places is None else flat[places.tensor()]
            found.append((self._product(left.t(), own), left.sum(0)))
        return found

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        """By torch's own library, with operands as exact as the loop's products."""
        with torch.autocast(self.device.type, enabled=False):
            if self.options.in_bfloat16:
                low = torch.bfloat16
                if is_interpreted():
                    return left.to(low).float() @ right.to(low).float()
                return torch.mm(left.to(low), right.to(low), out_dtype=torch.float32)
            with _in_precision(self.precision):
                return left @ right

    # -- the loop ---------------------------------------------------------------------------------

    def run_forward(
        self, run: Scan, parameters: Parameters, gates: Tensor | None, x: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        _place_initial(run)
        code = code_for(self.cell, self.options, is_forward=True)
        weights = {}
        if parameters.weight_hh is not None:
            late = len(self.cell.late_gates) * self.hidden
            early = len(parameters.weight_hh) - late
            weights["early"] = parameters.weight_hh[:early]
            weights["late"] = parameters.weight_hh[early:]
        if parameters.weight_hr is not None:
            weights["output"] = parameters.weight_hr
        self._call(run, code, parameters, weights, {"gates_at": gates})
        sequences = tuple([_sequence(run, k) for k in run.outline.sizes.sequences])
        return sequences, tuple([_last(run, k) for k in range(len(run.states))])

    def run_backward(
        self,
        run: Scan,
        back: Back,
        parameters: Parameters,
        sequences: Sequence[Tensor | None],
        last: Sequence[Tensor | None],
        grad_x: Tensor | None,
        *,
        needs_state: bool,
    ) -> list[Tensor | None]:
        _place_last_gradients(run, back, last)
        code = code_for(self.cell, self.options, is_forward=False)
        weights = {}
        if parameters.weight_hh is not None:
            rows = self.ordered(parameters.weight_hh, self.hidden_order)
            early = len(rows) - len(self.cell.late_gates) * self.hidden
            weights["early_back"] = rows[:early].t()
            weights["late_back"] = rows[early:].t()
        if parameters.weight_hr is not None:
            weights["output_back"] = parameters.weight_hr.t()
        given: dict[str, Any] = {"grad_gates_at": back.gates, "grad_inner_at": back.inner}
        given["grad_vectors_at"] = back.vectors
        for k, (carry, gradient) in enumerate(zip_longest(back.carry, sequences)):
            given[f"carry{k}_at"] = carry
            own = carry if gradient is None else in_rows(self, gradient, run.schedule)
            given[f"sequence{k}_at"] = own.contiguous()
            given[f"HAS_SEQUENCE{k}"] = gradient is not None
        for k, initial in enumerate(back.initial):
            given[f"initial{k}_at"] = initial
        self._call(run, code, parameters, weights, given)
        return [_initial_gradient(run, back, k) if needs_state else None for k in range(len(last))]

    def _call(
        self,
        run: Scan,
        code: Code,
        parameters: Parameters,
        weights: dict[str, Tensor],
        given: dict[str, Any],
    ) -> None:
        schedule, source = run.schedule, code.source
        low = torch.bfloat16 if self.options.in_bfloat16 else torch.float32
        given |= {f"{name}_weight_at": w.to(low).contiguous() for name, w in weights.items()}
        bias, output = parameters.bias_hh, parameters.bias_hr
        given |= {
            "steps": schedule.time,
            "tables_at": schedule.tables,
            "first_rows_at": schedule.first_rows,
            "bias_hidden_at": self.zeros if bias is None else bias,
            "bias_output_at": self.zeros if output is None else output,
        }
        if "tile_at" in source.arguments:
            columns = len(self.cell.gates) * max(self.hidden, self.output)
            given["tile_at"] = self.scratch("tile", schedule.batch, columns)
        if parameters.vectors:
            given["vectors_at"] = torch.cat(parameters.vectors)
        for name, rows in run.kept.items():
            given[f"{name}_at"] = rows
        for k, states in enumerate(run.states):
            given[f"state{k}_at"], given[f"start{k}"] = states, _start_row(run, k)
        controls = run.controls
        given |= {"mask_at": controls.mask, "resets_at": controls.resets}
        for k, share in enumerate(controls.zoneout):
            if share is not None:
                name = f"zoneout{k}"
                given[f"{name}_at"], given[f"{name}_row"], given[f"{name}_batch"] = share
        self._launch(code, given)

    def _launch(self, code: Code, given: dict[str, Any]) -> None:
        """All groups, as many at a time as surely run at once."""
        is_joined = self.share > 1 and needs_joins(self.plan.forward)
        given["counters_at"] = self._counters(is_joined)
        at_once = max(1, self.most_programs // self.share) if is_joined else self.groups
        constants = (*self.sizes, *(given[name] for name in code.source.flags))
        options = self._options(is_joined)
        for first in range(0, self.groups, at_once):
            given["first_group"] = first
            arguments = [given[name] for name in code.source.arguments]
            programs = min(at_once, self.groups - first) * self.share
            with self._as_current():
                code.call(programs, arguments, constants, options, self.device)

    def _as_current(self) -> AbstractContextManager[Any]:
        """Triton runs kernels on the current device, whatever their arguments' is."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _options(self, is_joined: bool) -> dict[str, Any]:
        options: dict[str, Any] = {"num_warps": self.warps, "num_stages": self.stages}
        if is_joined:
            options["launch_cooperative_grid"] = True
        return options

    def _counters(self, is_joined: bool) -> Tensor:
        if not is_joined:
            return self.no_counters
        count = self.groups * COUNTER_SPACING
        return torch.zeros(count, dtype=torch.int32, device=self.device)

    @cached_property
    def no_counters(self) -> Tensor:
        """Stands for counters where nobody waits."""
        return torch.zeros(1, dtype=torch.int32, device=self.device)


# -- before and after the loop ---------------------------------------------------------------------


def _place_initial(run: Scan) -> None:
    """Initial states into their buffers: for two steps in turn, with resets, once more behind."""
    schedule, batch = run.schedule, run.schedule.batch
    for k, (buffer, initial) in enumerate(zip(run.states, run.initial, strict=True)):
        ordered = gather_batch(initial, schedule)
        first = schedule.initial_row if run.form.keeps_sequence[k] else 0
        for row in {first, _start_row(run, k)} if run.form.options.has_reset else {first}:
            buffer[row : row + batch] = ordered


def _start_row(run: Scan, k: int) -> int:
    """Where in its buffer the initial state k stays through the whole scan, with resets."""
    is_kept = run.form.keeps_sequence[k]
    return run.schedule.initial_row if is_kept else 2 * run.schedule.batch


def _sequence(run: Scan, k: int) -> Tensor:
    """A state after each step, (time, batch, size), zero past each row's length."""
    schedule, states, size = run.schedule, run.states[k], run.form.state_sizes[k]
    if schedule.is_full:
        return full_sequence(run, k)
    first = schedule.output_row
    rows = run.form.spread(states[first : first + schedule.rows], schedule)
    return rows.view(schedule.time, schedule.batch, size)


def _last(run: Scan, k: int) -> Tensor:
    """A state after each row's last step."""
    schedule = run.schedule
    rows = schedule.last if run.form.keeps_sequence[k] else schedule.last_of_two
    found = run.states[k].index_select(0, rows)
    return found if schedule.is_full else _in_batch_order(found, run)


def _place_last_gradients(run: Scan, back: Back, last: Sequence[Tensor | None]) -> None:
    for carry, gradient, size in zip(back.carry, last, run.form.state_sizes, strict=True):
        carry.zero_()
        if gradient is not None:
            carry[:, :size] = gather_batch(gradient, run.schedule)


def _initial_gradient(run: Scan, back: Back, k: int) -> Tensor:
    total = back.carry[k] + back.initial[k] if back.initial else back.carry[k]
    return _in_batch_order(total[:, : run.form.state_sizes[k]], run)


def _in_batch_order(rows: Tensor, run: Scan) -> Tensor:
    """Rows of the groups, in the order of the batch's rows, in memory of their own."""
    result = torch.empty_like(rows, memory_format=torch.contiguous_format)
    if run.schedule.is_full:
        return result.copy_(rows)
    return result.index_copy_(0, run.schedule.order, rows)


@contextmanager
def _in_precision(precision: str) -> Iterator[None]:
    """torch's products in TF32 too where the loop's are, as cuDNN's recurrent layers do it all."""
    matmul: Any = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    if precision != "tf32" or before == "tf32":
        yield
        return
    matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def precision_now() -> str:
    """Of products in float32: what torch.nn's layers are set to (`torch.backends.cudnn`).

    By default that is TF32, ten bits of the mantissa; "ieee" gets three products in TF32 for each,
    which together are as exact as float32 nearly is.
    """
    cudnn: Any = torch.backends.cudnn
    return "tf32" if cudnn.rnn.fp32_precision == "tf32" else "tf32x3"


def setting(like: Tensor) -> tuple[torch.device, str]:
    """Device and precision now; see `Machine`."""
    return like.device, precision_now()


@lru_cache(maxsize=1024)
def make_form(
    cell: Cell,
    options: Options,
    batch: int,
    hidden: int,
    output: int,
    setting: tuple[torch.device, str],
) -> TritonForm:
    """The form of a scan on a device; see `Machine`."""
    device, precision = setting
    most, cut = processors(device), cut_for(cell, options, batch, hidden, output, device)
    groups, share = -(-batch // cut.block_rows), -(-max(hidden, output) // cut.block_units)
    return TritonForm(
        *(plan_for(cell, options), batch, hidden, output, groups, share),
        device=device,
        precision="ieee" if is_interpreted() else precision,
        most_programs=most,
        **cut._asdict(),
    )


class Cut(NamedTuple):
    """How a scan is cut into programs; see `TritonForm`."""

    block_rows: int
    block_units: int
    block_depth: int
    is_resident: bool
    warps: int
    stages: int = 3


def cut_for(
    cell: Cell, options: Options, batch: int, hidden: int, output: int, device: torch.device
) -> Cut:
    """Sizes that were the fastest on an H100; see benchmarks/gpu.py."""
    most, memory, units = processors(device), shared_bytes(device), max(hidden, output)
    number, whole = 2 if options.in_bfloat16 else 4, max(16, power_of_two(units))
    gates = power_of_two(len(cell.gates))
    is_alone = whole * whole * gates * number <= RESIDENT_SHARE * memory or not cell.recurrent
    if is_interpreted() or is_alone:
        block_units = whole if cell.recurrent else min(whole, 64)
    else:
        block_units = 16
        while -(-units // block_units) > most:
            block_units *= 2
    share, block_rows = -(-units // block_units), 16
    # small groups wait less for their reads, as long as all of them run at once
    while -(-batch // block_rows) * share > most and block_rows < 64:
        block_rows *= 2
    while -(-batch // block_rows) * share > most and block_units < 64 and not is_alone:
        block_units *= 2
        share = -(-units // block_units)
    columns = block_units * gates
    fits = whole * columns * number <= RESIDENT_SHARE * memory
    is_resident = fits and block_rows * whole <= MOST_OPERAND
    depth = min(64, whole)
    while depth > 16 and 3 * depth * (columns * number + block_rows * 4) > AHEAD_SHARE * memory:
        depth //= 2
    warps = 8 if block_units > 16 else 4
    return Cut(block_rows, block_units, whole if is_resident else depth, is_resident, warps)


def shared_bytes(device: torch.device) -> int:
    """Of shared memory that one program may have."""
    if device.type != "cuda":
        return H100_BYTES
    properties: Any = torch.cuda.get_device_properties(device)
    return int(properties.shared_memory_per_block_optin)


def processors(device: torch.device) -> int:
    """Multiprocessors: so many programs run at once for certain."""
    if device.type != "cuda":
        return 2
    return torch.cuda.get_device_properties(device).multi_processor_count
