"""The loop on the CPU: sizes, memory, and what a pass's machine code is told."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.cpu.code import Code, backward_code, forward_code, tile_table
from recurra.kernels.cpu.couples import couples_distance
from recurra.kernels.cpu.host import BFLOAT16, HALVES, THIRDS, Host, find_host
from recurra.kernels.cpu.passes import Frame, Pass
from recurra.kernels.cpu.products import (
    is_own_faster,
    library_linear,
    linear,
    pack_address,
    pack_turned,
    packed_size,
    product_of_rows,
    sums_of_products,
    take_rows,
)
from recurra.kernels.cpu.scratch import WORK, lent, new_numbers, new_zeros, scratch
from recurra.kernels.cpu.threads import thread_limit
from recurra.kernels.cpu.tiles import IN_FLIGHT, MAX_VECTORS
from recurra.kernels.form import Form, kept_widths
from recurra.kernels.gradient import Back
from recurra.kernels.plan import Options
from recurra.kernels.planner import plan_for
from recurra.kernels.scan import Scan, as_rows, full_sequence
from recurra.kernels.schedule import Places, Rows, Schedule
from recurra.reference import Parameters, Tensors

# With more bytes of R than this, threads share its units instead of the batch's rows. Up to there
# both take the same time on an idle machine; on a busy one, rows of their own keep threads from
# waiting for each other at every step.
SHARED_CACHE_BYTES = 1_200_000
# With at most as many bytes of W and R together, the loop multiplies the input, too: what it wrote
# it finds in its own cache, where a product over all steps would have left it in the memory.
LOOP_CACHE_BYTES = 2_500_000

# From such sizes on, in all directions, matrix units take less time for float32 than vectors; see
# `matrix`. In the loop that is a product's depth, for so many rows by parts; a thread has rows of
# its own where it finds so many bytes of R's parts in its core's own cache at each step.
LEAST_UNIT_SIZE, UNIT_CACHE_BYTES = 96, 1_600_000
LEAST_UNIT_ROWS = {HALVES: 8, THIRDS: 16}


@dataclass(frozen=True, eq=False)
class CpuForm(Form):
    """A form whose workers are threads.

    Groups need no waiting for one another, but each reads all of R at every step: with an R that
    a core's own cache does not hold, or with too few rows, threads share the units instead.
    """

    host: Host
    parts: int  # in which the loop's products split numbers to couples; 0: not at all

    def padded(self, size: int) -> int:
        return -(-size // self.host.lanes) * self.host.lanes

    @cached_property
    def _gates(self) -> int:
        return len(self.cell.gates)

    @cached_property
    def tile_columns(self) -> int:
        return self._gates * self.padded(max(self.hidden, self.output))

    def _parts_of(self, *sizes: int) -> int:
        """`parts` of a product over all steps, of these sizes."""
        if min(sizes) >= LEAST_UNIT_SIZE:
            return self._most_parts
        return BFLOAT16 if self.options.in_bfloat16 else 0

    @cached_property
    def _most_parts(self) -> int:
        """Of a large product's numbers."""
        if self.options.in_bfloat16:
            return BFLOAT16
        return self.host.float32_parts

    def _couples(self) -> dict[str, int]:
        """Of a group's rows, which are split for each product: sizes, by the arguments' names."""
        row = couples_distance(self._deepest, self.host, self.parts)
        return {"couples_row": row, "couples_thread": -(-self.batch // self.groups) * row}

    @cached_property
    def zeros(self) -> Tensor:
        """Rows that stand for a bias, and for the gradient of a sequence, that are not there."""
        return new_zeros(max(self._gates * self.hidden, self.output)).expand(2, -1)

    @cached_property
    def _passes(self) -> dict[tuple[bool, int], Pass]:
        return {}

    def _pass(self, *, is_forward: bool, inputs: int) -> Pass:
        """A pass whose loop multiplies that many inputs, compiled when it is first asked for."""
        if (is_forward, inputs) not in self._passes:
            options, find = self.options, forward_code if is_forward else backward_code
            options = options._replace(has_input=True) if inputs else options
            code = find(self.cell, options, self.host, self.parts)
            self._passes[is_forward, inputs] = self._with_known(code, is_forward, inputs)
        return self._passes[is_forward, inputs]

    def _with_known(self, code: Code, is_forward: bool, inputs: int) -> Pass:
        parts, own = self.parts, self.padded(self.hidden) * code.scratch_blocks
        table, _ = tile_table(self.host, parts)
        known = {"hidden": self.hidden, "output": self.output, "input": inputs}
        known |= {"share": self.share, "threads": self.workers, "scratch_thread": own}
        known |= {"batch": self.batch, "step.row": self.padded(inputs)}
        known |= (couples := self._couples())
        known["tiles"] = table.data_ptr()
        known["pack"] = pack_address(self.host, parts, is_turned=not is_forward)
        for name, (row, block) in self.strides().items():
            known |= {f"{name}.row": row, f"{name}.block": block}
        memory = {"tile.at": ("scan tile", self.batch * self.tile_columns)}
        memory["scratch"] = "scan values", self.workers * own
        if inputs:
            memory["step.at"] = "rows of a step", self.batch * known["step.row"]
        if inputs and is_forward and "gates" not in self.kept:
            memory["gates.at"] = "gates", self.batch * self._gates * self.hidden
        memory["couples"] = "couples", self.workers * couples["couples_thread"]
        sizes = {"hidden": self.hidden, "output": self.output, "input": inputs}
        for weight, (blocks, unit), (times, of) in code.weights:
            units, depth = sizes[unit], times * sizes[of]
            name, size = f"weight.{weight}", packed_size(blocks, units, depth, self.host, parts)
            known |= {f"{name}.blocks": blocks, f"{name}.units": units, f"{name}.depth": depth}
            memory[f"{name}.target"] = WORK, size
        rooms: dict[str, int] = {}
        scratch: dict[str, tuple[str, int]] = {}
        for argument, (name, size) in memory.items():
            if size:  # one behind the other, where a name has several
                scratch[argument] = name, rooms.get(name, 0)
                rooms[name] = rooms.get(name, 0) + size
        return Pass(code, known, rooms, scratch, self.groups, self.share)

    def strides(self) -> dict[str, tuple[int, int]]:
        """How far apart the rows and the blocks of each buffer are, in numbers."""
        hidden, output, cell = self.hidden, self.output, self.cell
        widths = kept_widths(self.plan, hidden, output)
        found = {name: (blocks * size, size) for name, (blocks, size) in widths.items()}
        found["gates"] = (self._gates * hidden, hidden)
        found["tile"] = (self.tile_columns, self.padded(max(hidden, output)))
        found |= {"bias_input": (0, hidden), "bias_hidden": (0, hidden)}
        found |= {"bias_output": (0, output), "vectors": (0, hidden)}
        found |= {"mask": (output, output), "grad_inner": (output, output)}
        found["grad_gates"] = (self.gradient_columns, hidden)
        padded = self.padded(hidden)
        found["grad_vectors"] = (len(cell.vectors) * padded, padded)
        for k, size in enumerate(self.state_sizes):
            found |= {f"state{k}": (size, 0), f"previous{k}": (size, 0)}
            found[f"carry{k}"] = (self.padded(size), 0)
        return found

    # -- memory, and products over all steps at once ----------------------------------------------

    def room(self, name: str, rows: int, columns: int) -> Tensor:
        return lent(rows, columns) if self.options.needs_gradient else scratch(name, rows, columns)

    def scratch(self, name: str, rows: int, columns: int) -> Tensor:
        return scratch(name, rows, columns)

    def blocks(self, rows: Tensor, places: tuple[int, ...]) -> Tensor:
        rows = rows.contiguous()
        result, size = new_numbers(rows.shape), 4 * rows.numel() // len(places)
        source, target = rows.data_ptr(), result.data_ptr()
        for k, place in enumerate(places):  # torch would take a small layer's product's time
            ctypes.memmove(target + k * size, source + place * size, size)
        return result

    def gather(self, rows: Tensor, places: Places) -> Tensor:
        return take_rows(rows, places, self.host)

    def spread(self, rows: Tensor, schedule: Schedule) -> Tensor:
        assert schedule.kept is not None, "a full batch's rows need no place"
        return take_rows(rows, schedule.kept, self.host)

    def linear(self, rows: Tensor, weight: Tensor, bias: Tensor | None, *, is_full: bool) -> Tensor:
        """A batch that is not full has another number of rows every time, to which a library would
        have to adapt itself; that takes up to a millisecond.
        """
        parts = self._parts_of(*rows.shape, len(weight))
        if rows.shape[1] == 1 or (is_full and self._asks_library(rows, weight, parts)):
            return library_linear(rows, weight, bias)
        return linear(rows, weight, bias, self.host, parts=parts, memory=lent)

    def times(self, rows: Tensor, weight: Tensor, *, is_full: bool) -> Tensor:
        parts = self._parts_of(*rows.shape, weight.shape[1])
        if is_full and self._asks_library(rows, weight, parts):
            return library_linear(rows, weight.t())
        packed, units = pack_turned(weight, self.host, WORK, parts=parts), weight.shape[1]
        return product_of_rows(rows, packed, units, None, self.host, parts=parts, memory=lent)

    def _asks_library(self, rows: Tensor, weight: Tensor, parts: int) -> bool:
        return not parts and not is_own_faster(rows, weight, self.host)

    def sums_of_products(self, left: Tensor, rights: Sequence[Rows]) -> list[tuple[Tensor, Tensor]]:
        parts = self._parts_of(*left.shape, sum([right.numbers.shape[-1] for right in rights]))
        return sums_of_products(left, rights, self.host, parts=parts)

    # -- the loop ----------------------------------------------------------------------------------

    def takes_input(self, inputs: int) -> bool:  # a product writes whole vectors
        return self.hidden % self.host.lanes == 0 and self._keeps_both(inputs)

    def gives_input(self, inputs: int) -> bool:
        return 2 * inputs >= self.padded(inputs) and self._keeps_both(inputs)

    def _keeps_both(self, inputs: int) -> bool:
        """Whether each step multiplies by W, too: it fits, and the multipliers are kept busy."""
        weights = self._gates * self.hidden * (inputs + self.output)
        fits = 4 * weights <= LOOP_CACHE_BYTES
        if self.parts and self.parts == self.host.float32_parts:
            fits = 2 * self.parts * weights <= UNIT_CACHE_BYTES
        is_busy = self.batch // self.groups * MAX_VECTORS >= IN_FLIGHT
        has_room = not self.parts or inputs <= self._deepest
        return self.share == 1 and inputs > 0 and fits and is_busy and has_room

    @property
    def _deepest(self) -> int:
        return max(self.output, self.hidden, self._gates * self.hidden)

    def run_forward(
        self, run: Scan, parameters: Parameters, gates: Tensor | None, x: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        one = self._pass(is_forward=True, inputs=0 if x is None else x.shape[-1])
        frame = one.frame()
        given, rows = self._given(frame, run, parameters), {}
        if gates is not None:
            rows["gates"] = gates
        if (weight := parameters.weight_hh) is not None:
            given["weight.early.source"] = weight = weight.contiguous()
            if late := len(self.cell.late_gates):
                given["weight.late.source"] = weight[-late * self.hidden :]
        if (weight := parameters.weight_hr) is not None:
            given["weight.output.source"] = weight.contiguous()
        if x is not None:
            rows["x"] = x
            given["weight.input.source"] = parameters.weight_ih.contiguous()
            given["bias_input.at"] = self._bias(parameters.bias_ih)
        last = []
        for k, initial in enumerate(run.initial):
            last.append(initial.new_empty(self.batch, self.state_sizes[k]))
            rows[f"start{k}"], given[f"last{k}"] = side_by_side(initial), last[k]
        sizes, schedule = run.outline
        sequences = []
        for k in sizes.sequences:
            frame[f"sequence{k}"] = 0
            if not sizes.is_full:
                shape = schedule.time, schedule.batch, self.state_sizes[k]
                sequences.append(run.states[k].new_empty(shape))
                given[f"sequence{k}"] = sequences[k]
        frame.put(given, rows)
        one.run(frame)
        if sizes.is_full:
            sequences = [full_sequence(run, k) for k in sizes.sequences]
        return tuple(sequences), tuple(last)

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
        one = self._pass(is_forward=False, inputs=0 if grad_x is None else grad_x.shape[-1])
        frame = one.frame()
        given, rows = self._given(frame, run, parameters), {}
        self._give_weights_turned(given, parameters)
        given["grad_gates.at"], given["grad_inner.at"] = back.gates, back.inner
        given["grad_vectors.at"] = back.vectors
        if (kept := run.kept.get("gates")) is not None:
            rows["gates"] = kept
        state: list[Tensor | None] = [None] * len(back.carry)
        for k, carry in enumerate(back.carry):
            given[f"carry{k}.at"] = carry
            sequence, gradient = sequences[k] if k < len(sequences) else None, last[k]
            rows[f"sequence{k}"] = self.zeros if sequence is None else as_rows(sequence)
            frame[f"grad_last{k}.at"] = frame[f"grad_start{k}"] = 0
            if gradient is not None:
                rows[f"grad_last{k}"] = side_by_side(gradient)
            if needs_state:
                new = run.initial[k].new_empty(self.batch, self.state_sizes[k])
                state[k] = given[f"grad_start{k}"] = new
        for k, initial in enumerate(back.initial):
            given[f"initial{k}"] = initial
            rows[f"start{k}"] = side_by_side(run.initial[k])
        if grad_x is not None:
            rows["grad_x"] = grad_x
            weight = self.ordered(parameters.weight_ih, self.input_order)
            given["weight.input_back.source"] = weight.contiguous()
        frame.put(given, rows)
        one.run(frame)
        return state

    def _given(self, frame: Frame, run: Scan, parameters: Parameters) -> dict[str, Tensor]:
        """Tensors that both passes of a scan read or write; what else they are told is put."""
        frame.put_schedule(run.schedule)
        given = {"bias_hidden.at": self._bias(parameters.bias_hh)}
        if self.cell.output is not None:
            given["bias_output.at"] = self._bias(parameters.bias_hr)
        if parameters.vectors:
            given["vectors.at"] = torch.cat(parameters.vectors)
        for name, rows in run.kept.items():
            if name != "gates":  # in rows of its own distance
                given[f"{name}.at"] = rows
        for k, states in enumerate(run.states):
            given[f"state{k}.at"] = given[f"previous{k}.at"] = states
        mask, zoneout, resets = run.controls
        if mask is not None:
            given["mask.at"] = mask
        if resets is not None:
            given["resets"] = resets
        for k, share in enumerate(zoneout):
            if share is not None:
                numbers, frame[f"zoneout{k}.row"], frame[f"zoneout{k}.batch"] = share
                given[f"zoneout{k}.at"] = numbers
        return given

    def _bias(self, bias: Tensor | None) -> Tensor:
        return self.zeros if bias is None else bias.contiguous()

    def _give_weights_turned(self, given: dict[str, Tensor], parameters: Parameters) -> None:
        """Of the gradients' products: rows in the order of the gates' gradients."""
        if parameters.weight_hh is not None:
            rows = self.ordered(parameters.weight_hh, self.hidden_order)
            given["weight.early_back.source"] = rows = rows.contiguous()
            if late := len(self.cell.late_gates):
                given["weight.late_back.source"] = rows[(self._gates - late) * self.hidden :]
        if parameters.weight_hr is not None:
            given["weight.output_back.source"] = parameters.weight_hr.contiguous()


def side_by_side(rows: Tensor) -> Tensor:
    """Rows, any distance apart, whose columns lie side by side."""
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def setting(like: Tensor) -> int:
    """How many threads there are now; see `Machine`."""
    return thread_limit()


def make_form(
    cell: Cell, options: Options, batch: int, hidden: int, output: int, threads: int
) -> CpuForm:
    """The form of a scan on this processor; see `Machine`."""
    return form_for(cell, options, find_host(), batch, hidden, output, threads)


@lru_cache(maxsize=1024)
def form_for(
    cell: Cell, options: Options, host: Host, batch: int, hidden: int, output: int, threads: int
) -> CpuForm:
    """The form of a scan by at most so many threads."""
    plan, shared = plan_for(cell, options), min(threads, max(1, hidden // (2 * host.lanes)))
    numbers = len(cell.gates) * hidden * output * cell.recurrent
    parts = BFLOAT16 if options.in_bfloat16 else 0
    if not parts and (most := host.float32_parts) and min(hidden, output) >= LEAST_UNIT_SIZE:
        is_near = 2 * most * numbers <= UNIT_CACHE_BYTES
        groups, share = (threads, 1) if is_near else (1, shared)
        if batch // groups >= LEAST_UNIT_ROWS[most]:
            return CpuForm(plan, batch, hidden, output, groups, share, host, most)
    if (2 if parts else 4) * numbers <= SHARED_CACHE_BYTES and batch >= 2 * threads:
        groups, share = threads, 1
    else:
        groups, share = 1, shared
    return CpuForm(plan, batch, hidden, output, groups, share, host, parts)
