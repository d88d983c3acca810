"""The loop over time as Triton code: each step's phases, for one program's rows and units.

Programs form groups, as the CPU's threads do: a group owns some rows of the batch, and each of its
programs a block of units; where the plan says so they wait for each other (`functions.join`). A
product's result stays in registers where the next phase is pointwise work on the same units; all
else passes through memory.

Names in the code: `member` numbers the group's rows, `unit` the program's units, `is_real` tells
the rows that are at work in this step, `is_here` the numbers that are there. A table of `schedule`
says where a step's rows lie. Sizes are compile-time constants in capitals:

    HIDDEN, OUTPUT     units of the hidden layer and of states[0]; MOST is the larger
    SHARE              programs in a group
    BLOCK_ROWS         rows of a group, rounded up      BLOCK_UNITS   units of a program
    BLOCK_DEPTH        how much of a product's depth is read at once
    WIDE_HIDDEN, …     units rounded up to a power of two, for sums over a row, of ROWS_AT_ONCE rows
    CACHE              how to read what other programs wrote   PRECISION   of products in float32
    RESIDENT           whether a program's part of R stays in registers through all steps
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from recurra.kernels.cpu.rows_code import TABLE_COLUMNS
from recurra.kernels.graph import REDUCTIONS, Graph
from recurra.kernels.plan import (
    PER_BATCH_ROW,
    PER_UNIT,
    SCRATCH_WITHOUT_GRADIENT,
    Phase,
    Place,
    Plan,
    Pointwise,
    Product,
    split_name,
)

COUNTER_SPACING = 32  # numbers between two groups' counters, so that they share no cache line
CONSTANT = (*PER_UNIT, "mask", "zoneout", "sequence")
SIZES: tuple[str, ...] = ("HIDDEN", "OUTPUT", "SHARE", "BLOCK_ROWS", "BLOCK_UNITS", "BLOCK_DEPTH")
SIZES += ("MOST", "WIDE_HIDDEN", "WIDE_OUTPUT", "ROWS_AT_ONCE", "CACHE", "PRECISION", "RESIDENT")

UNARY = {
    "abs": "tl.abs({})",
    "exp": "tl.exp({})",
    "expm1": "expm1({})",
    "log": "tl.log({})",
    "log1p": "log1p({})",
    "neg": "-{}",
    "not": "({} == 0)",
    "rsqrt": "tl.rsqrt({})",
    "sigmoid": "sigmoid({})",
    "sign": "sign({})",
    "sqrt": "tl.sqrt({})",
    "tanh": "tanh({})",
}
BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|"}
BINARY |= {"eq": "==", "ne": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}


@dataclass(frozen=True)
class Source:
    """A kernel's text and its arguments in order; after them come `SIZES` and `flags`.

    Arguments that end in `_at` are addresses, the others numbers; `flags` are compile-time
    booleans: whether a sequence's gradient is there.
    """

    text: str
    arguments: tuple[str, ...]
    flags: tuple[str, ...]


def emit(plan: Plan, *, is_forward: bool) -> Source:
    """The kernel of one pass, a function named `scan`."""
    phases = plan.forward if is_forward else plan.backward
    arguments, flags = _arguments(plan, phases)
    emitter = _Emitter(plan, phases, is_forward)
    emitter.emit()
    signature = [*arguments, *(f"{name}: tl.constexpr" for name in (*SIZES, *flags))]
    lines = [
        "import triton",
        "import triton.language as tl",
        "from recurra.kernels.triton.functions import expm1, join, log1p, sigmoid, sign, tanh",
        "",
        "",
        f"@triton.jit(do_not_specialize={[a for a in arguments if not a.endswith('_at')]!r})",
        "def scan(",
        *(f"    {name}," for name in signature),
        "):",
        *emitter.lines,
    ]
    return Source("\n".join(lines) + "\n", arguments, flags)


def _arguments(plan: Plan, phases: tuple[Phase, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    buffers: dict[str, None] = {}
    names = ["steps", "first_group", "tables_at", "first_rows_at", "counters_at"]
    for phase, following in zip(phases, (*phases[1:], None), strict=True):
        if isinstance(phase, Product):
            stays = phase.result == "tile" and _stays(following)
            buffers |= dict.fromkeys((phase.operand, *(() if stays else (phase.result,))))
            names.append(f"{phase.weight}_weight_at")
        elif isinstance(phase, Pointwise):
            loads = (p.buffer for load in phase.loads.values() for p in load)
            buffers |= dict.fromkeys(b for b in loads if b != "tile")
            buffers |= dict.fromkeys(p.buffer for _, p in phase.stores)
        else:
            buffers |= dict.fromkeys(f"carry{k}" for k in phase.states)
            names += [f"initial{k}_at" for k in phase.states]
    # a state's old values and its new ones are rows of one buffer
    states = {f"state{split_name(b)[1]}" for b in buffers if b.startswith("previous")}
    found = {b for b in buffers if not b.startswith("previous")} | states
    names += [f"{buffer}_at" for buffer in sorted(found)]
    for buffer in sorted(found):
        if buffer.startswith("zoneout"):
            names += [f"{buffer}_row", f"{buffer}_batch"]
    if plan.options.has_reset:
        names += ["resets_at", *(f"start{k}" for k in range(len(plan.cell.states)))]
    flags = tuple(f"HAS_{b.upper()}" for b in sorted(found) if b.startswith("sequence"))
    return tuple(names), flags


def needs_joins(phases: tuple[Phase, ...]) -> bool:
    """Whether programs of a group read what others wrote."""
    return any(isinstance(p, Product) or p.owner == "rows" for p in phases)


def _stays(following: Phase | None) -> bool:
    """Whether a product's result stays in registers for what follows it."""
    return isinstance(following, Pointwise) and not following.is_row_wise


class _Emitter:
    def __init__(self, plan: Plan, phases: tuple[Phase, ...], is_forward: bool) -> None:
        self.plan, self.phases, self.is_forward = plan, phases, is_forward
        self.graph: Graph = plan.graph
        self.lines: list[str] = []
        self.depth = 1
        # the last product's result, a name for each block, and what its follower has read already
        self.tile: list[str] = []
        self.early: dict[Place, str] = {}
        self.values = 0
        self.needs_joins = needs_joins(phases)

    def put(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line for line in lines]

    def name(self, stem: str) -> str:
        self.values += 1
        return f"{stem}_{self.values}"

    def emit(self) -> None:
        self.put(
            "group = first_group + tl.program_id(0) // SHARE",
            "part = tl.program_id(0) % SHARE",
            "first_row = tl.load(first_rows_at + group)",
            "member = tl.arange(0, BLOCK_ROWS)",
            "unit = part * BLOCK_UNITS + tl.arange(0, BLOCK_UNITS)",
            f"counter = counters_at + group * {COUNTER_SPACING}",
            "target = 0",
            f"first_step = {'0' if self.is_forward else 'steps - 1'}",
            f"table = tables_at + (group * steps + first_step) * {len(TABLE_COLUMNS)}",
        )
        self._read_table()
        for product in (p for p in self.phases if isinstance(p, Product)):
            self._weight_rows(product)
        # not pipelined: a later step's reads must not come before this step's writes
        self.put("for index in tl.range(0, steps, num_stages=1):")
        self.depth += 1
        self._open_step()
        for index, phase in enumerate(self.phases):
            following = self.phases[index + 1] if index + 1 < len(self.phases) else None
            self._phase(phase, following)
        self.depth -= 1

    def _read_table(self) -> None:
        for column, entry in enumerate(TABLE_COLUMNS):
            self.put(f"next_{entry} = tl.load(table + {column})")

    def _open_step(self) -> None:
        """This step's table was read during the last one."""
        for entry in TABLE_COLUMNS:
            self.put(f"{entry} = next_{entry}")
        move = len(TABLE_COLUMNS) if self.is_forward else -len(TABLE_COLUMNS)
        self.put(f"table += tl.where(index + 1 < steps, {move}, 0)")
        self._read_table()
        self.put("is_real = member < count")

    # -- rows and addresses -----------------------------------------------------------------------

    def _stride(self, buffer: str) -> str:
        """How far apart a buffer's rows are."""
        plan, (kind, k) = self.plan, split_name(buffer)
        blocks = {
            "gates": len(plan.cell.gates),
            "saved": plan.saved_blocks,
            "numbers": plan.saved_numbers,
            "saved_output": plan.saved_output_blocks,
            "grad_gates": plan.gradient_blocks,
            "tile": len(plan.cell.gates),
        }.get(kind, 1)
        if kind == "numbers":
            return str(blocks)
        return f"({blocks} * {self._size(kind, k)})"

    def _size(self, kind: str, k: int) -> str:
        """Units in one block of a buffer."""
        if kind in ("state", "previous", "carry", "zoneout", "sequence"):
            return "OUTPUT" if k == 0 else "HIDDEN"
        if kind in ("saved_output", "operand", "mask", "grad_inner", "bias_output"):
            return "OUTPUT"
        return "MOST" if kind == "tile" else "HIDDEN"

    def _row(self, buffer: str, member: str) -> str:
        """The rows of a buffer that belong to these members of the group at this step."""
        kind, k = split_name(buffer)
        is_scratch = kind in SCRATCH_WITHOUT_GRADIENT and not self.plan.options.needs_gradient
        if kind in PER_BATCH_ROW or is_scratch:
            return f"(first_row + {member})"
        if kind in ("state", "previous"):
            in_turn = k > 0 and not self.plan.options.keeps_all
            return f"({f'other_{kind}' if in_turn else kind} + {member})"
        return f"(row + {member})"

    def _address(self, place: Place, frame: "_Frame") -> str:
        """Addresses (rows, units) of a place."""
        kind, k = split_name(place.buffer)
        at, size = f"{place.buffer}_at", self._size(kind, k)
        if kind in PER_UNIT:
            return f"{at} + ({place.block} * {size} + {frame.unit})[None, :]"
        if kind == "grad_vectors":
            vectors = len(self.plan.cell.vectors)
            own = f"(group * SHARE + part) * {vectors} * HIDDEN + {place.block} * HIDDEN"
            return f"{at} + {own} + {frame.unit}"
        row = self._row(place.buffer, frame.member)
        if kind == "numbers":
            return f"{at} + ({row} * {self._stride(kind)} + {place.block})[:, None]"
        if kind == "zoneout":
            batch = f"(first_row + {frame.member}) * {place.buffer}_batch"
            rows = f"({row} * {place.buffer}_row + {batch})"
            return f"{at} + {rows}[:, None] + {frame.unit}[None, :]"
        if kind == "previous":
            at = f"state{k}_at"
            if self.plan.options.has_reset:
                start = f"start{k} + first_row + {frame.member}"
                row = f"tl.where({frame.is_reset}, {start}, {row})"
        shift = f"{place.block} * {self._block(place.buffer)} + {frame.unit}"
        return f"{at} + ({row} * {self._stride(place.buffer)})[:, None] + ({shift})[None, :]"

    def _block(self, buffer: str) -> str:
        return self._size(*split_name(buffer))

    # -- phases -----------------------------------------------------------------------------------

    def _phase(self, phase: Phase, following: Phase | None) -> None:
        if isinstance(phase, Product):
            self._product(phase, following)
        elif isinstance(phase, Pointwise):
            self._pointwise(phase)
        else:
            for k in phase.states:
                self._flush(k, phase.unit)
        if phase.joins and self.needs_joins:
            self.put("if SHARE > 1:", "    target += SHARE", "    join(counter, target)")
            self.put("else:", "    tl.debug_barrier()")
        else:  # another thread of the program may have written what the next phase reads
            self.put("tl.debug_barrier()")

    # -- products ---------------------------------------------------------------------------------

    def _weight_rows(self, product: Product) -> None:
        """Which row of the weight each column of a product's tile is: units, their blocks inside.

        So the blocks of a unit lie side by side, and are parted by halving.
        """
        blocks, unit = product.width
        wide, size, stem = power_of_two(blocks), unit.upper(), product.weight
        depth = f"{product.depth[0]} * {product.depth[1].upper()}"
        self.put(
            f"{stem}_column = tl.arange(0, BLOCK_UNITS * {wide})",
            f"{stem}_unit = part * BLOCK_UNITS + {stem}_column // {wide}",
            f"{stem}_block = {stem}_column % {wide}",
            f"{stem}_is_there = ({stem}_unit < {size}) & ({stem}_block < {blocks})",
            f"{stem}_row = ({stem}_block * {size} + {stem}_unit).to(tl.int64) * ({depth})",
            f"{stem}_rows = {stem}_weight_at + {stem}_row",
            "if RESIDENT:",
            "    place = tl.arange(0, BLOCK_DEPTH)",
        )
        for block in range(product.depth[0]):
            part = product.depth[1].upper()
            self.put(
                f"    {stem}_{block} = tl.load(",
                f"        {stem}_rows[None, :] + ({block} * {part} + place)[:, None],",
                f"        mask=(place < {part})[:, None] & {stem}_is_there[None, :], other=0.0,",
                "    )",
            )

    def _product(self, product: Product, following: Phase | None) -> None:
        blocks, unit = product.width
        wide, operand = power_of_two(blocks), product.operand
        stays, frame = product.result == "tile" and _stays(following), _unit_frame(unit)
        if stays:
            assert isinstance(following, Pointwise)
            self._open_frame(frame, following)
            places = [p for load in following.loads.values() for p in load]
            self.early = {p: self._load(p, frame) for p in places if p.buffer != "tile"}
        at = "state0_at" if operand == "previous0" else f"{operand}_at"
        row = self._row(operand, "member")
        first = f"{product.first} * {self._block(operand)}"
        self.put(
            f"rows = {at} + ({row} * {self._stride(operand)} + {first})[:, None]",
            f"sums = tl.zeros((BLOCK_ROWS, BLOCK_UNITS * {wide}), tl.float32)",
            "if RESIDENT:",
        )
        self.depth += 1
        for block in range(product.depth[0]):
            self._resident_product(product, block)
        self.depth -= 1
        self.put("else:")
        self.depth += 1
        self._streamed_product(product)
        self.depth -= 1
        parts = self._parted("sums", wide)[:blocks]
        if stays:
            self.tile = parts
            return
        self.put(f"is_here = is_real[:, None] & (unit < {unit.upper()})[None, :]")
        for block, value in enumerate(parts):
            address = self._address(Place(product.result, block), frame)
            if product.adds:
                value = f"{value} + tl.load({address}, mask=is_here, other=0.0)"
            self.put(f"tl.store({address}, {value}, mask=is_here)")

    def _resident_product(self, product: Product, block: int) -> None:
        """One block of the operand, all of it at once, with weights that are in registers."""
        size, weight = product.depth[1].upper(), f"{product.weight}_{block}"
        self.put(
            "place = tl.arange(0, BLOCK_DEPTH)",
            f"left = tl.load(rows + ({block} * {size} + place)[None, :],",
            f"               mask=is_real[:, None] & (place < {size})[None, :],",
            "               other=0.0, cache_modifier=CACHE)",
            f"sums = tl.dot(left.to({weight}.dtype), {weight}, sums, input_precision=PRECISION)",
        )

    def _streamed_product(self, product: Product) -> None:
        stem, depth = product.weight, f"{product.depth[0]} * {product.depth[1].upper()}"
        self.put(
            f"for begin in range(0, {depth}, BLOCK_DEPTH):",
            "    place = begin + tl.arange(0, BLOCK_DEPTH)",
            f"    is_inside = place < {depth}",
            "    left = tl.load(rows + place[None, :], mask=is_real[:, None] & is_inside[None, :],",
            "                   other=0.0, cache_modifier=CACHE)",
            f"    right = tl.load({stem}_rows[None, :] + place[:, None],",
            f"                    mask=is_inside[:, None] & {stem}_is_there[None, :], other=0.0)",
            "    sums = tl.dot(left.to(right.dtype), right, sums, input_precision=PRECISION)",
        )

    def _parted(self, value: str, wide: int) -> list[str]:
        """A tile's blocks: columns are unit · wide + block."""
        if wide == 1:
            return [value]
        halves = wide.bit_length() - 1
        shape = ", ".join(["BLOCK_ROWS", "BLOCK_UNITS", *["2"] * halves])
        whole = self.name("parts")
        self.put(f"{whole} = tl.reshape({value}, ({shape}))")
        parts = [whole]
        for _ in range(halves):
            # the last axis holds the lowest bit of the block's number, so it goes last in order
            pairs = [(self.name("part"), self.name("part")) for _ in parts]
            for part, (low, high) in zip(parts, pairs, strict=True):
                self.put(f"{low}, {high} = tl.split({part})")
            parts = [low for low, _ in pairs] + [high for _, high in pairs]
        return parts

    # -- pointwise work ---------------------------------------------------------------------------

    def _pointwise(self, phase: Pointwise) -> None:
        if not phase.is_row_wise:
            frame = _unit_frame(phase.unit)
            if not self.early:
                self._open_frame(frame, phase)
            self._work(phase, frame)
            return
        frame = _row_frame(phase.unit)
        self.put(
            "for first in tl.range(",
            "    part * ROWS_AT_ONCE, BLOCK_ROWS, SHARE * ROWS_AT_ONCE, num_stages=1",
            "):",
        )
        self.depth += 1
        self.put(
            f"{frame.member} = first + tl.arange(0, ROWS_AT_ONCE)",
            f"{frame.unit} = tl.arange(0, {frame.wide})",
            f"{frame.is_real} = {frame.member} < count",
        )
        self._open_frame(frame, phase)
        self._work(phase, frame)
        self.depth -= 1

    def _open_frame(self, frame: "_Frame", phase: Pointwise) -> None:
        self.put(
            f"{frame.is_there} = {frame.unit} < {phase.unit.upper()}",
            f"{frame.is_here} = {frame.is_real}[:, None] & {frame.is_there}[None, :]",
        )
        places = [p for load in phase.loads.values() for p in load]
        if self.plan.options.has_reset and any(p.buffer.startswith("previous") for p in places):
            rows = f"resets_at + row + {frame.member}"
            self.put(f"{frame.is_reset} = tl.load({rows}, mask={frame.is_real}, other=0) != 0")

    def _load(self, place: Place, frame: "_Frame") -> str:
        kind, value = split_name(place.buffer)[0], self.name(split_name(place.buffer)[0])
        address = self._address(place, frame)
        mask = frame.is_here
        if kind in PER_UNIT:
            mask = f"{frame.is_there}[None, :]"
        elif kind == "numbers":
            mask = f"{frame.is_real}[:, None]"
        cache = "" if kind in CONSTANT else ", cache_modifier=CACHE"
        load = f"{value} = tl.load({address}, mask={mask}, other=0.0{cache})"
        if kind == "sequence":
            shape = "BLOCK_ROWS, BLOCK_UNITS"
            shape = f"ROWS_AT_ONCE, {frame.wide}" if frame.is_row_wise else shape
            self.put(f"if HAS_{place.buffer.upper()}:", f"    {load}", "else:")
            self.put(f"    {value} = tl.zeros(({shape}), tl.float32)")
        else:
            self.put(load)
        return value

    def _work(self, phase: Pointwise, frame: "_Frame") -> None:
        found = {**self.early, **{Place("tile", k): v for k, v in enumerate(self.tile)}}
        for place in (p for load in phase.loads.values() for p in load):
            if place not in found:
                found[place] = self._load(place, frame)
        known = {
            node: "(" + " + ".join(found[p] for p in places) + ")"
            for node, places in phase.loads.items()
        }
        values = self._compute([n for n, _ in phase.stores], known, frame, phase.unit)
        stores = []
        for node, place in phase.stores:
            value, mask = values[node], frame.is_here
            address = self._address(place, frame)
            if place.buffer == "grad_vectors":
                value = f"tl.sum(tl.where({frame.is_here}, {value}, 0.0), axis=0)"
                mask = frame.is_there
            elif place.buffer == "numbers":
                mask = f"{frame.is_real}[:, None]"
            if place in phase.adds:
                value = f"tl.load({address}, mask={mask}, other=0.0) + {value}"
            name = self.name("new")
            self.put(f"{name} = {value}")
            stores.append(f"tl.store({address}, {name}, mask={mask})")
        self.put(*stores)
        self.early, self.tile = {}, []

    def _compute(
        self, outputs: Iterable[int], known: Mapping[int, str], frame: "_Frame", unit: str
    ) -> dict[int, str]:
        values: dict[int, str] = dict(known)
        for index in self.graph.needed(outputs, known):
            if index in values:
                continue
            node = self.graph.nodes[index]
            if node.op == "constant":
                values[index] = f"({_literal(node.value)})"
            elif node.op == "size":
                values[index] = f"({unit.upper()} * 1.0)"
            else:
                name = values[index] = self.name("v")
                arguments = [values[a] for a in node.args]
                self.put(f"{name} = {_operation(node.op, arguments, frame)}")
        return values

    # -- resets -----------------------------------------------------------------------------------

    def _flush(self, k: int, unit: str) -> None:
        """Rows that were reset before this step: their gradient goes to the initial state."""
        frame, place = _unit_frame(unit), Place(f"carry{k}")
        carry = self._address(place, frame)
        initial = carry.replace(f"carry{k}_at", f"initial{k}_at")
        self.put(
            "is_new = tl.load(resets_at + row + member, mask=is_real, other=0) != 0",
            f"is_moved = (is_real & is_new)[:, None] & (unit < {unit.upper()})[None, :]",
            f"moved = tl.load({carry}, mask=is_moved, other=0.0)",
            f"moved += tl.load({initial}, mask=is_moved, other=0.0)",
            f"tl.store({initial}, moved, mask=is_moved)",
            f"tl.store({carry}, tl.zeros((BLOCK_ROWS, BLOCK_UNITS), tl.float32), mask=is_moved)",
        )


@dataclass(frozen=True)
class _Frame:
    """The names of rows, units and masks that a phase works with."""

    member: str
    unit: str
    is_real: str
    is_there: str
    is_here: str
    is_reset: str
    wide: str = ""

    @property
    def is_row_wise(self) -> bool:
        return bool(self.wide)


def _unit_frame(unit: str) -> _Frame:
    return _Frame("member", "unit", "is_real", f"is_{unit}", f"is_here_{unit}", "is_reset")


def _row_frame(unit: str) -> _Frame:
    wide = f"WIDE_{unit.upper()}"
    return _Frame("fellow", "column", "is_fellow", "is_column", "is_cell", "is_new_row", wide)


def _operation(op: str, arguments: list[str], frame: _Frame) -> str:
    if op in REDUCTIONS:
        function, neutral = ("sum", "0.0") if op == "row_sum" else ("max", "float('-inf')")
        masked = f"tl.where({frame.is_here}, {arguments[0]}, {neutral})"
        return f"tl.{function}({masked}, axis=1, keep_dims=True)"
    if op in UNARY:
        return UNARY[op].format(arguments[0])
    if op in BINARY:
        return f"{arguments[0]} {BINARY[op]} {arguments[1]}"
    function = {"maximum": "tl.maximum", "minimum": "tl.minimum", "where": "tl.where"}[op]
    return f"{function}({', '.join(arguments)})"


def _literal(value: float) -> str:
    return repr(value) if value == value and abs(value) != float("inf") else f"float('{value}')"


def power_of_two(count: int) -> int:
    """The least that is not below."""
    return 1 << (count - 1).bit_length()
