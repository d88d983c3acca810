"""What a kernel has to do in one step of the loop, forward and backward, for any emitter.

A plan is made from a cell's graphs by `planner`. It says which products and which pointwise work
one step consists of and in what order, where each value lives, and which values the forward pass
keeps for the backward pass. It knows nothing of a machine: emitters turn it into code.

Where values live (`Place.buffer`); a block is `hidden` (or `output`) numbers of one row:

    gates        from_input for each gate; kept values take the place of those used up
    saved        values kept for the backward pass that found no place in `gates`
    numbers      kept values that are one number for a row
    tile         the result of the product before
    previous{k}  state k before the step            state{k}  after it
    operand      what R multiplies, where that is not simply previous0
    late_operand the same for the late gates        inner     states[0] before the output product
    x            what W multiplies, where the loop does that
    vectors, bias_input, bias_hidden, bias_output, mask, zoneout{k}
    grad_gates   gradients of from_input and from_hidden; a folded gate has one for both
    grad_x       gradient of x, where the loop makes it
    grad_inner   gradient of what the output product gave
    grad_vectors gradients of the vectors, summed over rows and steps
    carry{k}     gradient of state k, on its way back     sequence{k}  gradient of the result
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from recurra.cells import Cell
from recurra.kernels.graph import Graph


class Options(NamedTuple):
    """What a kernel is made for, besides the cell."""

    zoneout: tuple[bool, ...]
    has_mask: bool = False
    has_reset: bool = False
    all_states: bool = False
    needs_gradient: bool = False
    in_bfloat16: bool = False  # the products' operands; their sums and all else are float32
    has_input: bool = False  # the input's products are part of each step
    is_step: bool = False  # the only step, of a stream: weights are read as they lie

    @property
    def keeps_all(self) -> bool:
        """Whether states but the first are kept for every step, too; else for two in turn."""
        return self.needs_gradient or self.all_states


@dataclass(frozen=True)
class Place:
    buffer: str
    block: int = 0


Places = tuple[Place, ...]


@dataclass(frozen=True)
class Product:
    """`result = operand @ weight` for the rows at hand, or `result += …` if it adds.

    `depth` and `width` are (blocks, unit) of the operand's columns, from block `first` on, and of
    the result's. `bias` names what is in every row's sums, if anything.
    """

    operand: str
    first: int
    depth: tuple[int, str]
    weight: str
    result: str
    width: tuple[int, str]
    adds: bool = False
    bias: str = ""
    joins: bool = False

    @property
    def owner(self) -> str:
        return self.width[1]


@dataclass(frozen=True)
class Pointwise:
    """Graph nodes to load, each the sum of the places, and to store after computing.

    A store to a place in `adds` adds to what is there. `owner` is how threads share the work: the
    unit, of which each takes a range, or "rows" for graphs that sum over a row.
    """

    unit: str
    loads: Mapping[int, Places]
    stores: tuple[tuple[int, Place], ...]
    adds: frozenset[Place] = frozenset()
    is_row_wise: bool = False
    joins: bool = False

    @property
    def owner(self) -> str:
        return "rows" if self.is_row_wise else self.unit


@dataclass(frozen=True)
class Flush:
    """At a reset, the gradient carried back belongs to the initial state."""

    states: tuple[int, ...]
    unit: str
    joins: bool = False

    @property
    def owner(self) -> str:
        return self.unit


Phase = Product | Pointwise | Flush


@dataclass(frozen=True)
class Plan:
    """One step of the loop.

    `input_order` and `hidden_order` list the gates in the order of their blocks in `grad_gates`:
    from_input's come first, from_hidden's are the last ones, and the folded gates, in the middle,
    count for both.
    """

    cell: Cell
    options: Options
    graph: Graph
    forward: tuple[Phase, ...]
    backward: tuple[Phase, ...]
    folded: tuple[int, ...]
    input_order: tuple[int, ...]
    hidden_order: tuple[int, ...]
    saved_blocks: int
    saved_numbers: int
    saved_output_blocks: int
    state_unit: str

    @property
    def gradient_blocks(self) -> int:
        return len(self.input_order) + len(self.hidden_order) - len(self.folded)

    @cached_property
    def keeps_gates(self) -> bool:
        """Whether the backward pass reads anything that lies in `gates`."""
        loads = [p.loads.values() for p in self.backward if isinstance(p, Pointwise)]
        return any(place.buffer == "gates" for found in loads for p in found for place in p)


# How the row of a buffer is found: one for each of the batch's, or, for what is not here nor per
# unit, one for each step of each row.
PER_BATCH_ROW = ("tile", "carry", "mask")
PER_UNIT = ("vectors", "bias_input", "bias_hidden", "bias_output")
SCRATCH_WITHOUT_GRADIENT = ("operand", "late_operand", "inner", "saved")


def split_name(buffer: str) -> tuple[str, int]:
    """("carry1") -> ("carry", 1); a buffer that is not of a state -> (name, 0)."""
    return (buffer[:-1], int(buffer[-1])) if buffer[-1].isdigit() else (buffer, 0)
