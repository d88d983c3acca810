"""What all scans of one cell, options and sizes have in common, whatever machine runs them.

A `Form` is made once for each cell, options and sizes, and looked up by each call. What only a
machine can say (memory, products over all steps at once, the loop itself) each of `cpu.form` and
`triton.form` adds.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.plan import Options, Plan
from recurra.kernels.schedule import Places, Rows, Schedule
from recurra.reference import Parameters, Tensors

if TYPE_CHECKING:
    from recurra.kernels.gradient import Back
    from recurra.kernels.scan import Scan


@dataclass(frozen=True, eq=False)
class Form:
    """Sizes in units and rows, and how the batch's rows are shared out.

    Attributes:
        plan: what one step does.
        batch, hidden, output: rows; units of the hidden layer and of `states[0]`.
        groups: groups of the batch's rows, which never wait for one another.
        share: workers (threads, GPU programs) in each group, which share its units.
    """

    plan: Plan
    batch: int
    hidden: int
    output: int
    groups: int
    share: int

    @cached_property
    def cell(self) -> Cell:
        return self.plan.cell

    @cached_property
    def options(self) -> Options:
        return self.plan.options

    @cached_property
    def workers(self) -> int:
        return self.groups * self.share

    @cached_property
    def state_sizes(self) -> tuple[int, ...]:
        return (self.output,) + (self.hidden,) * (len(self.cell.states) - 1)

    @cached_property
    def keeps_sequence(self) -> tuple[bool, ...]:
        """Whether a state is there for every step, or only for the last two."""
        return (True,) + (self.options.keeps_all,) * (len(self.cell.states) - 1)

    @cached_property
    def kept(self) -> dict[str, int]:
        """Columns of what is kept per step besides the states."""
        widths = kept_widths(self.plan, self.hidden, self.output)
        return {name: blocks * size for name, (blocks, size) in widths.items()}

    @cached_property
    def gradient_columns(self) -> int:
        """Columns of the gates' gradients."""
        return self.plan.gradient_blocks * self.hidden

    @cached_property
    def carry_sizes(self) -> tuple[tuple[str, int], ...]:
        """Of each state's gradient on its way back, the name and the columns."""
        sizes = enumerate(self.state_sizes)
        return tuple((f"carry{k}", self.padded(size)) for k, size in sizes)

    @cached_property
    def input_order(self) -> "Order":
        """Where the gates' blocks lie in the gradients of the input's products."""
        return Order(tuple(self.plan.input_order))

    @cached_property
    def hidden_order(self) -> "Order":
        """The same for the recurrent products."""
        return Order(tuple(self.plan.hidden_order))

    @cached_property
    def shares_gradients(self) -> bool:
        """Whether the gradients of the input's and of the recurrent products are the same ones."""
        is_folded = len(self.plan.folded) == len(self.cell.gates)
        return self.cell.recurrent and is_folded and not self.cell.late_gates

    # -- what a machine adds ----------------------------------------------------------------------

    def padded(self, size: int) -> int:
        """Columns of a row of so many units in what the backward pass carries."""
        return size

    def room(self, name: str, rows: int, columns: int) -> Tensor:
        """Memory for what the loop keeps: as long as the scan with gradients, else for one call."""
        raise NotImplementedError

    def scratch(self, name: str, rows: int, columns: int) -> Tensor:
        """Memory that is used until the next call with this name."""
        raise NotImplementedError

    def ordered(self, rows: Tensor, order: "Order") -> Tensor:
        """Rows, a block for each gate, in the order of the gates -> in that of the blocks."""
        return rows if order.is_plain else self.blocks(rows, order.places)

    def by_gate(self, rows: Tensor, order: "Order") -> Tensor:
        """Rows in the order of the blocks -> in the order of the gates."""
        return rows if order.is_plain else self.blocks(rows, order.inverse)

    def blocks(self, rows: Tensor, places: tuple[int, ...]) -> Tensor:
        """As many blocks of rows as there are places, block `places[k]` as the k-th."""
        blocks = rows.reshape(len(places), -1)
        return torch.cat([blocks[k : k + 1] for k in places]).view(rows.shape)

    def gather(self, rows: Tensor, places: Places) -> Tensor:
        """Rows by their numbers; their columns lie side by side."""
        return rows.flatten(0, -2).index_select(0, places.tensor())

    def spread(self, rows: Tensor, schedule: Schedule) -> Tensor:
        """Rows that are kept -> (time·batch, columns), zeros where a step is not real."""
        assert schedule.places is not None, "a full batch's rows need no place"
        result = rows.new_zeros(schedule.time * schedule.batch, rows.shape[1])
        return result.index_copy_(0, schedule.places.tensor(), rows)

    def linear(self, rows: Tensor, weight: Tensor, bias: Tensor | None, *, is_full: bool) -> Tensor:
        """rows @ weight.T + bias, as exact as the loop's products. `is_full`: of a full batch."""
        raise NotImplementedError

    def times(self, rows: Tensor, weight: Tensor, *, is_full: bool) -> Tensor:
        """rows @ weight, likewise."""
        raise NotImplementedError

    def sums_of_products(self, left: Tensor, rights: Sequence[Rows]) -> list[tuple[Tensor, Tensor]]:
        """left.T @ right for one or two, likewise; and beside each the sum of left's rows."""
        raise NotImplementedError

    def takes_input(self, inputs: int) -> bool:
        """Whether the loop multiplies an input of so many columns itself."""
        return False

    def gives_input(self, inputs: int) -> bool:
        """Whether the loop back makes the gradient of an input of so many columns itself."""
        return False

    def run_forward(
        self, run: "Scan", parameters: Parameters, gates: Tensor | None, x: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        """The loop, on the scan's buffers; the sequences of states, and the last ones.

        Sequences, of those that are asked for, are (time, batch, size), zero past each length.

        Args:
            run: its states are filled, but for the rows of steps that are not real.
            parameters: of the layer.
            gates: the input's products; if x is given, room for them, or None if none is kept.
            x: rows t·batch + b, for the loop to multiply by W; see `takes_input`.
        """
        raise NotImplementedError

    def run_backward(
        self,
        run: "Scan",
        back: "Back",
        parameters: Parameters,
        sequences: Sequence[Tensor | None],
        last: Sequence[Tensor | None],
        grad_x: Tensor | None,
        *,
        needs_state: bool,
    ) -> list[Tensor | None]:
        """The loop back; the gradients of the initial states, if they are needed.

        Args:
            run, parameters: of the forward pass.
            back: buffers; `gates` and `inner` are filled.
            sequences: gradients of the first states' sequences, (time, batch, size), or None.
            last: gradients of the last states, or None.
            grad_x: rows t·batch + b, for the gradient of x, to be filled; see `gives_input`.
            needs_state: see above.
        """
        raise NotImplementedError


class Machine(NamedTuple):
    """What runs the loops on a kind of device: how forms are made for it.

    Attributes:
        form: `(cell, options, batch, hidden, output, setting)`.
        setting: of a tensor there, what besides sizes decides on a form: threads, a device.
        step: one step without gradients and masks, or None where it takes a scan of one step.
    """

    form: Callable[[Cell, Options, int, int, int, Any], Form]
    setting: Callable[[Tensor], Hashable]
    step: Callable[[Cell, Tensor, tuple[Tensor, ...], Parameters], tuple[Tensor, ...] | None]


def kept_widths(plan: Plan, hidden: int, output: int) -> dict[str, tuple[int, int]]:
    """Blocks in a row, and their size, of what is kept per step besides the states.

    The gates only if the backward pass reads what lies there.
    """
    cell, options = plan.cell, plan.options
    is_prepared = cell.recurrent and (options.has_mask or options.has_reset)
    widths = {
        "gates": (len(cell.gates) * plan.keeps_gates, hidden),
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

    @cached_property
    def is_plain(self) -> bool:
        """Whether each lies in its own."""
        return self.places == tuple(range(len(self.places)))

    @cached_property
    def inverse(self) -> tuple[int, ...]:
        """In which block each gate lies."""
        return tuple([self.places.index(k) for k in range(len(self.places))])
