"""The loop on the CPU: sizes, packed weights, memory, and the call of a pass's machine code.

Small layers run for half a millisecond, so what a call can know beforehand it looks up here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.cpu.code import Code, Frame, backward_code, forward_code, tile_table
from recurra.kernels.cpu.couples import along_columns, row_size
from recurra.kernels.cpu.host import Host, find_host
from recurra.kernels.cpu.products import (
    along_rows,
    library_linear,
    linear,
    pack,
    pack_turned,
    product_of_rows,
    sums_of_products,
    take_rows,
)
from recurra.kernels.cpu.scratch import lent, scratch
from recurra.kernels.cpu.threads import thread_limit
from recurra.kernels.cpu.tiles import IN_FLIGHT, MAX_VECTORS
from recurra.kernels.form import Form, kept_widths
from recurra.kernels.gradient import Back, in_gradient_order
from recurra.kernels.plan import Options
from recurra.kernels.planner import plan_for
from recurra.kernels.scan import Scan
from recurra.kernels.schedule import Schedule
from recurra.reference import Parameters, Tensors

# With more bytes of R than this, threads share its units instead of the batch's rows. Up to there
# both take the same time on an idle machine; on a busy one, rows of their own keep threads from
# waiting for each other at every step.
SHARED_CACHE_BYTES = 1_200_000
# With at most as many bytes of W and R together, the loop multiplies the input, too: what it wrote
# it finds in its own cache, where a product over all steps would have left it in the memory.
LOOP_CACHE_BYTES = 2_500_000


@dataclass(frozen=True, eq=False)
class CpuForm(Form):
    """A form whose workers are threads.

    Groups need no waiting for one another, but each reads all of R at every step: with an R that
    a core's own cache does not hold, or with too few rows, threads share the units instead.
    """

    host: Host

    def padded(self, size: int) -> int:
        return -(-size // self.host.lanes) * self.host.lanes

    @cached_property
    def tile_columns(self) -> int:
        return len(self.cell.gates) * self.padded(max(self.hidden, self.output))

    @cached_property
    def couples_row(self) -> int:
        """Couples in the largest row that a product of the loop has to round."""
        return row_size(self._deepest, self.host)

    @cached_property
    def couples_thread(self) -> int:
        """Couples of a thread's rows, all of which are rounded at once."""
        return -(-self.batch // self.groups) * self.couples_row

    @cached_property
    def zeros(self) -> Tensor:
        """Stands for a bias, and for the gradient of a sequence, that are not there."""
        return torch.zeros(max(len(self.cell.gates) * self.hidden, self.output))

    @cached_property
    def forward(self) -> "Pass":
        return Pass.of(self, forward_code(self.cell, self.options, self.host))

    @cached_property
    def backward(self) -> "Pass":
        return Pass.of(self, backward_code(self.cell, self.options, self.host))

    @cached_property
    def forward_with_input(self) -> "Pass":
        options = self.options._replace(has_input=True)
        return Pass.of(self, forward_code(self.cell, options, self.host))

    @cached_property
    def backward_with_input(self) -> "Pass":
        options = self.options._replace(has_input=True)
        return Pass.of(self, backward_code(self.cell, options, self.host))

    def strides(self) -> dict[str, tuple[int, int]]:
        """How far apart the rows and the blocks of each buffer are, in numbers."""
        hidden, output, cell = self.hidden, self.output, self.cell
        widths = kept_widths(self.plan, hidden, output)
        found = {name: (blocks * size, size) for name, (blocks, size) in widths.items()}
        found["gates"] = (len(cell.gates) * hidden, hidden)
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

    def gather(self, rows: Tensor, places: Tensor) -> Tensor:
        has_columns = rows.stride(1) == 1  # an expanded gradient has none side by side
        return take_rows(rows, places, self.host) if has_columns else super().gather(rows, places)

    def spread(self, rows: Tensor, schedule: Schedule) -> Tensor:
        return take_rows(rows, schedule.kept, self.host)

    def linear(self, rows: Tensor, weight: Tensor, bias: Tensor | None, *, is_full: bool) -> Tensor:
        """A batch that is not full has another number of rows every time, to which a library would
        have to adapt itself; that takes up to a millisecond.
        """
        in_bfloat16 = self.options.in_bfloat16
        if rows.shape[1] == 1 or (is_full and not in_bfloat16):
            return library_linear(rows, weight, bias)
        return linear(rows, weight, bias, self.host, in_bfloat16=in_bfloat16, memory=lent)

    def times(self, rows: Tensor, weight: Tensor, *, is_full: bool) -> Tensor:
        in_bfloat16 = self.options.in_bfloat16
        if is_full and not in_bfloat16:
            return library_linear(rows, weight.t())
        packed, units = self._packed_turned(weight, "input"), weight.shape[1]
        return product_of_rows(rows, packed, units, None, self.host, in_bfloat16=in_bfloat16)

    def sums_of_products(
        self, left: Tensor, rights: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        return sums_of_products(left, rights, self.host, in_bfloat16=self.options.in_bfloat16)

    # -- the loop ----------------------------------------------------------------------------------

    def takes_input(self, inputs: int) -> bool:  # a product writes whole vectors
        return self.hidden % self.host.lanes == 0 and self._keeps_both(inputs)

    def gives_input(self, inputs: int) -> bool:
        return inputs % self.host.lanes == 0 and self._keeps_both(inputs)

    def _keeps_both(self, inputs: int) -> bool:
        """Whether each step multiplies by W, too: it fits, and the multipliers are kept busy."""
        weights = len(self.cell.gates) * self.hidden * (inputs + self.output)
        fits = self.share == 1 and inputs > 0 and 4 * weights <= LOOP_CACHE_BYTES
        is_busy = self.batch // self.groups * MAX_VECTORS >= IN_FLIGHT
        has_room = not self.options.in_bfloat16 or inputs <= self._deepest
        return fits and is_busy and has_room

    @property
    def _deepest(self) -> int:
        return max(self.output, self.hidden, len(self.cell.gates) * self.hidden)

    def run_forward(
        self, run: Scan, parameters: Parameters, gates: Tensor, x: Tensor | None
    ) -> Tensors:
        late, hidden, schedule = len(self.cell.late_gates), self.hidden, run.schedule
        early, keeps_all = len(self.cell.gates) - late, self.keeps_sequence[-1]
        tensors = {"gates.at": gates, "last_rows": schedule.last}
        tensors["other_last_rows"] = schedule.last if keeps_all else schedule.last_of_two
        numbers = {"gates.row": gates.stride(0)}
        if (weight := parameters.weight_hh) is not None:
            tensors["weight.early"] = self._packed(weight, hidden, "early", blocks=early)
            if late:
                packed = self._packed(weight, hidden, "late", first=early, blocks=late)
                tensors["weight.late"] = packed
        if (weight := parameters.weight_hr) is not None:
            tensors["weight.output"] = self._packed(weight, self.output, "output")
        code = self.forward if x is None else self.forward_with_input  # compiled when asked for
        if x is not None:
            packed = self._packed(parameters.weight_ih, hidden, "input", blocks=early + late)
            tensors["x.at"], tensors["weight.input"] = x, packed
            if (bias := parameters.bias_ih) is not None:
                tensors["bias_input.at"] = bias.contiguous()
            numbers["x.row"], numbers["input"] = x.stride(-2), x.shape[-1]
        last = tuple([s.new_empty(s.shape) for s in run.initial])
        for k, new in enumerate(last):
            tensors[f"last{k}"] = new
        _add_initial(run, tensors, numbers)
        self._call(run, code, parameters, tensors, numbers)
        return last

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
        tensors, numbers = self._backward_weights(parameters), {}
        tensors["grad_gates.at"], tensors["grad_inner.at"] = back.gates, back.inner
        tensors["grad_vectors.at"] = back.vectors
        if (kept := run.kept.get("gates")) is not None:
            tensors["gates.at"], numbers["gates.row"] = kept, kept.stride(0)
        state = [s.new_empty(s.shape) if needs_state else None for s in run.initial]
        for k, carry in enumerate(back.carry):
            tensors[f"carry{k}.at"] = carry
            if (rows := sequences[k]) is not None:
                tensors[f"sequence{k}.at"], numbers[f"sequence{k}.row"] = rows, rows.stride(-2)
            if (gradient := last[k]) is not None:
                _add_rows(f"grad_last{k}", gradient, tensors, numbers)
            if (start := state[k]) is not None:
                tensors[f"grad_start{k}"] = start
        for k, initial in enumerate(back.initial):
            tensors[f"initial{k}"] = initial
        if self.options.has_reset:
            _add_initial(run, tensors, numbers)
        if grad_x is not None:
            gates, weight = len(self.cell.gates), parameters.weight_ih
            weight = in_gradient_order(weight, self.input_order, gates)
            tensors["weight.input_back"] = self._packed_turned(weight, "input")
            tensors["grad_x.at"] = grad_x
            numbers["grad_x.row"], numbers["input"] = grad_x.stride(-2), grad_x.shape[-1]
        code = self.backward if grad_x is None else self.backward_with_input
        self._call(run, code, parameters, tensors, numbers)
        return state

    def _backward_weights(self, parameters: Parameters) -> dict[str, Tensor]:
        gates, late = len(self.cell.gates), len(self.cell.late_gates)
        weights = {}
        if parameters.weight_hh is not None:
            rows = in_gradient_order(parameters.weight_hh, self.hidden_order, gates)
            if late:
                early = (gates - late) * self.hidden
                weights["weight.late_back"] = self._packed_turned(rows[early:], "late")
                rows = rows[:early]
            weights["weight.early_back"] = self._packed_turned(rows, "early")
        if parameters.weight_hr is not None:
            weights["weight.output_back"] = self._packed_turned(parameters.weight_hr, "output")
        return weights

    def _packed(
        self, weight: Tensor, units: int, name: str, *, first: int = 0, blocks: int = 1
    ) -> Tensor:
        weight = along_columns(weight) if self.options.in_bfloat16 else weight
        return pack(weight, units, self.host, name, first=first, blocks=blocks)

    def _packed_turned(self, rows: Tensor, name: str) -> Tensor:
        rows = along_rows(rows, self.host) if self.options.in_bfloat16 else rows
        return pack_turned(rows, self.host, name)

    def _call(
        self,
        run: Scan,
        code: "Pass",
        parameters: Parameters,
        tensors: Mapping[str, Tensor],
        numbers: Mapping[str, int],
    ) -> None:
        """Run one pass on the scan's buffers; `tensors`, `numbers`: what it has besides them."""
        schedule, (bias, output) = run.schedule, (parameters.bias_hh, parameters.bias_hr)
        given = {
            "tables": schedule.tables_for(keeps_all=self.keeps_sequence[-1]),
            "first_rows": schedule.first_rows,
            "places": schedule.places,
            "tile.at": scratch("scan tile", schedule.batch, self.tile_columns),
            **tensors,
        }
        numbers = {"steps": schedule.time, **numbers}
        if bias is not None:
            given["bias_hidden.at"] = bias.contiguous()
        if output is not None:
            given["bias_output.at"] = output.contiguous()
        if parameters.vectors:
            given["vectors.at"] = torch.cat(parameters.vectors)
        if self.options.in_bfloat16:
            given["couples"] = scratch("couples", self.workers * self.couples_thread)
        if code.scratch_numbers:
            given["scratch"] = scratch("scan values", code.scratch_numbers)
        if self.share > 1:
            given["barriers"] = torch.zeros(self.workers, 8, dtype=torch.int64)
        _add_controls(run, given, numbers)
        for name, rows in run.kept.items():
            if name != "gates":  # in rows of its own distance
                given[f"{name}.at"] = rows
        for k, states in enumerate(run.states):
            given[f"state{k}.at"] = given[f"previous{k}.at"] = states
        code.run(given, numbers)


def _add_initial(run: Scan, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
    for k, initial in enumerate(run.initial):
        _add_rows(f"start{k}", initial, tensors, numbers)


def _add_rows(name: str, rows: Tensor, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
    """A buffer whose rows lie any distance apart."""
    rows = rows if rows.stride(-1) == 1 else rows.contiguous()
    tensors[f"{name}.at"], numbers[f"{name}.row"] = rows, rows.stride(0)


def _add_controls(run: Scan, given: dict[str, Tensor], numbers: dict[str, int]) -> None:
    mask, zoneout, resets = run.controls.mask, run.controls.zoneout, run.controls.resets
    if mask is not None:
        given["mask.at"] = mask
    if resets is not None:
        given["resets"] = resets
    for k, share in enumerate(zoneout):
        if share is not None:
            name = f"zoneout{k}"
            given[f"{name}.at"], numbers[f"{name}.row"], numbers[f"{name}.batch"] = share


def make_form(
    cell: Cell, options: Options, batch: int, hidden: int, output: int, like: Tensor
) -> CpuForm:
    """The form of a scan by as many threads as there are now; see `Machine`."""
    return form_for(cell, options, find_host(), batch, hidden, output, thread_limit())


@lru_cache(maxsize=1024)
def form_for(
    cell: Cell, options: Options, host: Host, batch: int, hidden: int, output: int, threads: int
) -> CpuForm:
    """The form of a scan by at most so many threads."""
    weights = (2 if options.in_bfloat16 else 4) * len(cell.gates) * hidden * output * cell.recurrent
    if weights <= SHARED_CACHE_BYTES and batch >= 2 * threads:
        groups, share = threads, 1
    else:
        groups, share = 1, min(threads, max(1, hidden // (2 * host.lanes)))
    return CpuForm(plan_for(cell, options), batch, hidden, output, groups, share, host)


@dataclass(frozen=True)
class Pass:
    """A pass, forward or backward, with the arguments that do not change from call to call."""

    code: Code
    frame: Frame
    scratch_numbers: int  # of all threads
    groups: int
    share: int

    @classmethod
    def of(cls, form: CpuForm, code: Code) -> "Pass":
        own = form.padded(form.hidden) * code.scratch_blocks
        known = {"hidden": form.hidden, "output": form.output, "scratch_thread": own}
        table, _ = tile_table(form.host, in_bfloat16=form.options.in_bfloat16)
        known["tiles"] = table.data_ptr()
        missing = ["bias_input", "bias_hidden", "bias_output"]  # until they are given
        missing += [f"sequence{k}" for k in range(len(form.cell.states))]
        known |= {f"{name}.at": form.zeros.data_ptr() for name in missing}
        if form.options.in_bfloat16:
            known |= {"couples_row": form.couples_row, "couples_thread": form.couples_thread}
        for name, (row, block) in form.strides().items():
            known |= {f"{name}.row": row, f"{name}.block": block}
        return cls(code, code.frame(known), form.workers * own, form.groups, form.share)

    def run(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, int]) -> None:
        """Run with the rest of the arguments: the tensors' addresses, and plain numbers."""
        values, places = type(self.frame).from_buffer_copy(self.frame), self.code.layout.places
        addresses = [(name, tensor.data_ptr()) for name, tensor in tensors.items()]
        for name, value in chain(addresses, numbers.items()):
            place = places.get(name)
            if place is not None:  # else this pass does not ask for it
                values[place] = value
        self.code.call(values, self.groups, self.share)
