"""What all scans of one cell, options and sizes have in common: code, sizes, strides; made once.

Small layers run for half a millisecond, so what a call can know beforehand it looks up here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.cpu.code import Code, Frame, backward_code, forward_code, plan_for, tile_table
from recurra.kernels.cpu.couples import row_size
from recurra.kernels.cpu.host import Host
from recurra.kernels.plan import Options, Plan

# With more bytes of R than this, threads share its units instead of the batch's rows. Up to there
# both take the same time on an idle machine; on a busy one, rows of their own keep threads from
# waiting for each other at every step.
SHARED_CACHE_BYTES = 900_000


@dataclass(frozen=True, eq=False)
class Form:
    """Sizes in units and rows; the batch's rows in `groups`, `share` threads in each.

    Groups need no waiting for one another, but each reads all of R at every step: with an R that
    a core's own cache does not hold, or with too few rows, threads share the units instead.
    """

    plan: Plan
    host: Host
    batch: int
    hidden: int
    output: int
    groups: int
    share: int

    @property
    def cell(self) -> Cell:
        return self.plan.cell

    @property
    def options(self) -> Options:
        return self.plan.options

    @property
    def threads(self) -> int:
        return self.groups * self.share

    def padded(self, size: int) -> int:
        return -(-size // self.host.lanes) * self.host.lanes

    @cached_property
    def state_sizes(self) -> tuple[int, ...]:
        return (self.output,) + (self.hidden,) * (len(self.cell.states) - 1)

    @cached_property
    def keeps_sequence(self) -> tuple[bool, ...]:
        """Whether a state is there for every step, or only for the last two."""
        keeps_all = self.options.needs_gradient or self.options.all_states
        return (True,) + (keeps_all,) * (len(self.cell.states) - 1)

    @cached_property
    def kept(self) -> dict[str, int]:
        """Columns of what is kept per step besides the states."""
        widths = kept_widths(self.plan, self.hidden, self.output)
        return {name: blocks * size for name, (blocks, size) in widths.items()}

    @cached_property
    def tile_columns(self) -> int:
        return len(self.cell.gates) * self.padded(max(self.hidden, self.output))

    @cached_property
    def couples_row(self) -> int:
        """Couples in the largest row that a product of the loop has to round."""
        deepest = max(self.output, self.hidden, len(self.cell.gates) * self.hidden)
        return row_size(deepest, self.host)

    @cached_property
    def couples_thread(self) -> int:
        """Couples of a thread's rows, all of which are rounded at once."""
        return -(-self.batch // self.groups) * self.couples_row

    @cached_property
    def input_order(self) -> "Order | None":
        """Where the gates' blocks lie in the gradients of the input's products; None: in order."""
        return _order(self.plan.input_order)

    @cached_property
    def hidden_order(self) -> "Order | None":
        """The same for the recurrent products."""
        return _order(self.plan.hidden_order)

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

    def strides(self) -> dict[str, tuple[int, int]]:
        """How far apart the rows and the blocks of each buffer are, in numbers."""
        hidden, output, cell = self.hidden, self.output, self.cell
        widths = kept_widths(self.plan, hidden, output)
        found = {name: (blocks * size, size) for name, (blocks, size) in widths.items()}
        found["tile"] = (self.tile_columns, self.padded(max(hidden, output)))
        found |= {"bias_hidden": (0, hidden), "bias_output": (0, output), "vectors": (0, hidden)}
        found |= {"mask": (output, output), "grad_inner": (output, output)}
        found["grad_gates"] = (self.plan.gradient_blocks * hidden, hidden)
        padded = self.padded(hidden)
        found["grad_vectors"] = (len(cell.vectors) * padded, padded)
        for k, size in enumerate(self.state_sizes):
            found |= {f"state{k}": (size, 0), f"previous{k}": (size, 0)}
            found[f"carry{k}"] = (self.padded(size), 0)
        return found


@lru_cache(maxsize=1024)
def form_for(
    cell: Cell, options: Options, host: Host, batch: int, hidden: int, output: int, threads: int
) -> Form:
    """The form of a scan by at most so many threads."""
    weights = (2 if options.in_bfloat16 else 4) * len(cell.gates) * hidden * output * cell.recurrent
    if weights <= SHARED_CACHE_BYTES and batch >= 2 * threads:
        groups, share = threads, 1
    else:
        groups, share = 1, min(threads, max(1, hidden // (2 * host.lanes)))
    return Form(plan_for(cell, options), host, batch, hidden, output, groups, share)


def kept_widths(plan: Plan, hidden: int, output: int) -> dict[str, tuple[int, int]]:
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


@dataclass(frozen=True)
class Order:
    """Gate `places[k]` lies in block k."""

    places: tuple[int, ...]

    def apply(self, blocks: Tensor) -> Tensor:
        """Blocks in the order of the gates -> in this order."""
        return blocks[list(self.places)]

    def undo(self, blocks: Tensor) -> Tensor:
        """Blocks in this order -> in the order of the gates."""
        return blocks[[self.places.index(k) for k in range(len(self.places))]]


def _order(places: Sequence[int]) -> Order | None:
    return None if list(places) == sorted(places) else Order(tuple(places))


@dataclass(frozen=True)
class Pass:
    """A pass, forward or backward, with the arguments that do not change from call to call."""

    code: Code
    frame: Frame
    scratch_numbers: int  # of all threads
    groups: int
    share: int

    @classmethod
    def of(cls, form: Form, code: Code) -> "Pass":
        own = form.padded(form.hidden) * code.scratch_blocks
        known = {"hidden": form.hidden, "output": form.output, "scratch_thread": own}
        table, _ = tile_table(form.host, in_bfloat16=form.options.in_bfloat16)
        known["tiles"] = table.data_ptr()
        if form.options.in_bfloat16:
            known |= {"couples_row": form.couples_row, "couples_thread": form.couples_thread}
        for name, (row, block) in form.strides().items():
            known |= {f"{name}.row": row, f"{name}.block": block}
        return cls(code, code.frame(known), form.threads * own, form.groups, form.share)

    def run(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, int]) -> None:
        """Run with the rest of the arguments: the tensors' addresses, and plain numbers."""
        arguments = {name: tensor.data_ptr() for name, tensor in tensors.items()}
        arguments.update(numbers)
        self.code.call(self.frame, arguments, self.groups, self.share)
