"""The loop over time as LLVM code: each step's phases, shared out between threads.

`forward(arguments, thread)` and `backward(arguments, thread)` run one thread's part. Threads form
groups; a group owns some rows of the batch, and within a group each thread owns a range of units.
Threads of one group wait for each other where the plan says so, by counting up one number in
memory; nothing is forked or joined inside the loop.

Before the first step all threads pack the weights, and the states that the scan begins with are
copied into their buffer; after the last step the last ones are copied out of it. The way back does
the same with their gradients.

`arguments` is an array of 64-bit numbers: addresses, sizes, strides. `Layout` says what is where.
`first_rows` has each group's first row of the batch, and where the last group ends; `order`, for
each of these rows, which of the batch's it is; `tables`, for each group and each step:

    count     rows at work            row       first row in what is kept per step
    state     first row of the new state, in the buffers of the states
    previous  first row of the old one; `other_*` the same for the states but the first
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from llvmlite import ir

from recurra.kernels.cpu.couples import packed_rows, row_size_of, split_rows
from recurra.kernels.cpu.dots import dot_products
from recurra.kernels.cpu.flow import Code, ask, ceiling, each_vector, least, loop, place_of
from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.matrix import Matrices, call_products, new_configuration, release
from recurra.kernels.cpu.packing_code import PACK_ARGUMENTS
from recurra.kernels.cpu.pointwise import Passes, RowEmitter
from recurra.kernels.cpu.rows_code import SCHEDULE_ARGUMENTS, TABLE_COLUMNS
from recurra.kernels.cpu.tiles import MAX_VECTORS, call_tiles
from recurra.kernels.cpu.vector import I1, I8, I32, I64, POINTER, Vectors, integer, offset
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

SPINS_BEFORE_YIELD = 2000


@dataclass(frozen=True)
class Layout:
    """Which argument is where: names in order."""

    names: tuple[str, ...]

    @cached_property
    def places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}


def make_layout(plan: Plan, parts: int, *, is_forward: bool) -> Layout:
    """The arguments that a pass uses.

    A buffer has three: `.at` its address, `.row` the distance of its rows and `.block` of its
    blocks, in numbers; zoneout a fourth, `.batch`, for what does not change from step to step. A
    weight has those of the function that packs it, one after the other. `parts`: see
    `code.tile_table`.
    """
    phases = plan.forward if is_forward else plan.backward
    names = [*SCHEDULE_ARGUMENTS, "share", "hidden", "output", "barriers", "tiles"]
    names += ["thread_number", "thread_count", "threads", "refused", "give_way", "meeting", "pack"]
    names += ["scratch", "scratch_thread", "resets"]
    names += ["input"] if plan.options.has_input else []
    names += ["couples", "couples_row", "couples_thread"] if parts else []
    for buffer in _buffers(phases):
        names += [f"{buffer}.at", f"{buffer}.row", f"{buffer}.block"]
        names += [f"{buffer}.batch"] if split_name(buffer)[0] == "zoneout" else []
    weights = [p.weight for p in phases if isinstance(p, Product)]
    if plan.options.is_step:
        names += [f"weight.{weight}" for weight in weights]
    else:
        names += [f"weight.{weight}.{name}" for weight in weights for name in PACK_ARGUMENTS]
        names += _names_outside_the_loop(plan, is_forward=is_forward)
    return Layout(tuple(dict.fromkeys(names)))


def _names_outside_the_loop(plan: Plan, *, is_forward: bool) -> list[str]:
    """Of what states and their gradients come from, are in, and go to."""
    names = ["batch"]
    names += ["step.at", "step.row"] if plan.options.has_input else []
    if is_forward:
        names += [f"sequence{k}" for k in _sequences(plan)]
    for k in range(len(plan.cell.states)):
        if is_forward or plan.options.has_reset:
            names += [f"start{k}.at", f"start{k}.row"]
        if is_forward:
            names += [f"state{k}.at", f"state{k}.row", f"last{k}"]
        else:
            names += [f"grad_last{k}.at", f"grad_last{k}.row", f"carry{k}.at", f"carry{k}.row"]
            names += [f"grad_start{k}"] + ([f"initial{k}"] if plan.options.has_reset else [])
    return names


def _sequences(plan: Plan) -> range:
    """The states whose sequences are results."""
    return range(len(plan.cell.states) if plan.options.all_states else 1)


def _buffers(phases: tuple[Phase, ...]) -> list[str]:
    found: dict[str, None] = {}
    for phase in phases:
        if isinstance(phase, Product):
            found |= dict.fromkeys((phase.operand, phase.result))
            found |= dict.fromkeys([phase.bias] if phase.bias else [])
        elif isinstance(phase, Pointwise):
            found |= dict.fromkeys(p.buffer for load in phase.loads.values() for p in load)
            found |= dict.fromkeys(p.buffer for _, p in phase.stores)
        else:
            found |= dict.fromkeys(f"carry{k}" for k in phase.states)
    return sorted(found)


def scratch_blocks(plan: Plan, phases: tuple[Phase, ...]) -> int:
    """Blocks of scratch that one thread needs."""
    counts = [len(Passes(plan.graph, p).scratch) for p in phases if isinstance(p, Pointwise)]
    return max(counts, default=0)


def build_driver(plan: Plan, host: Host, parts: int, *, is_forward: bool) -> ir.Module:
    """A module with `run(arguments, thread)`, and `enter(arguments)` for each thread of a team."""
    module = ir.Module("forward" if is_forward else "backward")
    type_ = ir.FunctionType(ir.VoidType(), [POINTER, I64])
    function = ir.Function(module, type_, "run")
    driver = _Driver(function, plan, host, parts, is_forward)
    driver.emit()
    _build_entry(module, function, driver.layout)
    return module


def _build_entry(module: ir.Module, run: ir.Function, layout: Layout) -> None:
    """Ask OpenMP which thread this is, and run its part.

    If OpenMP gave fewer threads than were asked for, as it does inside another parallel region,
    nobody may begin: the others would wait for ever. Then only `refused` is set.
    """
    enter = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), "enter")
    (arguments,) = enter.args
    builder = ir.IRBuilder(enter.append_basic_block("entry"))

    def slot(name: str) -> ir.Value:
        return builder.gep(arguments, [integer(layout.places[name])], source_etype=I64)

    expected = builder.load(slot("threads"), typ=I64, align=8)
    given = ask(builder, arguments, layout.places["thread_count"])
    is_team = builder.icmp_signed("==", given, expected)
    with builder.if_else(is_team) as (then, otherwise):
        with then:
            builder.call(run, [arguments, ask(builder, arguments, layout.places["thread_number"])])
        with otherwise:
            builder.store(integer(1), slot("refused"))
    builder.ret_void()


class _Driver:
    def __init__(
        self, function: ir.Function, plan: Plan, host: Host, parts: int, is_forward: bool
    ) -> None:
        self.plan, self.host, self.parts, self.is_forward = plan, host, parts, is_forward
        self.module = function.module
        self.phases = plan.forward if is_forward else plan.backward
        self.layout = make_layout(plan, parts, is_forward=is_forward)
        self.arguments, self.thread = function.args
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.loaded: dict[str, ir.Value] = {}

    def emit(self) -> None:
        builder = self.builder
        for name in self.layout.names:
            slot = builder.gep(
                self.arguments, [integer(self.layout.places[name])], source_etype=I64
            )
            self.loaded[name] = builder.load(slot, typ=I64, align=8)
        self.group = group = builder.sdiv(self.thread, self.number("share"))
        self.part = builder.srem(self.thread, self.number("share"))
        units = {"hidden", "output"} | {p.owner for p in self.phases if isinstance(p, Product)}
        self.ranges = {u: self._range(self.number(u)) for u in sorted(units)}
        with builder.goto_entry_block():
            self.target, self.asked = builder.alloca(I64), builder.alloca(I64)
        builder.store(integer(0), self.target)
        self.barrier = builder.gep(
            self.pointer("barriers"), [builder.mul(group, integer(64))], source_etype=I8
        )
        steps = self.number("steps")
        per_group = builder.mul(steps, integer(len(TABLE_COLUMNS)))
        table = builder.mul(group, per_group)
        self.first_row = self.entry("first_rows", group)
        moves = not self.plan.options.is_step
        self.uses_units = self.host.uses_units(self.parts)
        if self.uses_units:
            self.configuration = new_configuration(builder)
        self.moves_input = moves and self.plan.options.has_input
        if self.moves_input:
            self._divert_input()
        if moves:
            self._pack_weights()
            self._bring_states(table) if self.is_forward else self._bring_gradients()
            self._meet()
        with loop(builder, integer(0), steps) as index:
            step = index
            if not self.is_forward:
                step = builder.sub(builder.sub(steps, integer(1)), index)
            self.at_step = self._at_step(table, step)
            self.is_odd = builder.trunc(index, I1)
            if moves:
                self._look_ahead(table, step)
            if self.moves_input and self.is_forward:
                self._take_input()
            for phase in self.phases:
                self._phase(phase)
            if self.moves_input and not self.is_forward:
                self._give_input(step)
        if moves:
            self._join()
            self._take_states() if self.is_forward else self._take_gradients()
            if self.is_forward:
                self._spread_states(table)
        if self.uses_units:
            release(builder)
        builder.ret_void()

    # -- arguments --------------------------------------------------------------------------------

    def number(self, name: str) -> ir.Value:
        return self.loaded[name]

    def pointer(self, name: str) -> ir.Value:
        return self.builder.inttoptr(self.loaded[name], POINTER)

    def entry(self, name: str, index: ir.Value) -> ir.Value:
        """A number of a table."""
        slot = self.builder.gep(self.pointer(name), [index], source_etype=I64)
        return self.builder.load(slot, typ=I64, align=8)

    def _at_step(self, table: ir.Value, step: ir.Value) -> dict[str, ir.Value]:
        """The columns of the group's table at a step."""
        base = self.builder.add(table, self.builder.mul(step, integer(len(TABLE_COLUMNS))))
        return {
            name: self.entry("tables", self.builder.add(base, integer(column)))
            for column, name in enumerate(TABLE_COLUMNS)
        }

    def row_at(self, name: str, row: ir.Value) -> ir.Value:
        """The address of a row of a buffer."""
        shift = self.builder.mul(row, self.number(f"{name}.row"))
        return offset(self.builder, self.pointer(f"{name}.at"), shift)

    def _range(self, units: ir.Value) -> tuple[ir.Value, ir.Value]:
        """This thread's vectors of units: whole pairs, so that products can share them too."""
        builder = self.builder
        lanes = integer(self.host.lanes)
        vectors = builder.sdiv(builder.add(units, builder.sub(lanes, integer(1))), lanes)
        pairs = builder.sdiv(builder.add(vectors, integer(1)), integer(2))
        share = self.number("share")
        bounds = []
        for part in (self.part, builder.add(self.part, integer(1))):
            pair = builder.sdiv(builder.mul(pairs, part), share)
            end = builder.mul(pair, integer(2))
            is_beyond = builder.icmp_signed(">", end, vectors)
            bounds.append(builder.select(is_beyond, vectors, end))
        return bounds[0], bounds[1]

    # -- what is asked of the memory before it is due ---------------------------------------------

    def _look_ahead(self, table: ir.Value, step: ir.Value) -> None:
        """Find the rows that the next step will read and write; see `_ask`.

        Products leave the memory idle, and pointwise work waits for it: asked for in time, the way
        back takes 8 % less, forward 6 % (LSTM of 128, batch 128, Granite Rapids). Where threads
        share units, R is larger than a core's own cache, and tiles ask for that.
        """
        builder = self.builder
        steps, one = self.number("steps"), integer(1)
        if self.is_forward:
            step = least(builder, builder.add(step, one), builder.sub(steps, one))
        else:
            is_last = builder.icmp_signed("==", step, integer(0))
            step = builder.select(is_last, step, builder.sub(step, one))
        self.next_step = rows = self._at_step(table, step)
        self.wanted: list[tuple[ir.Value, ir.Value, ir.Value]] = []
        end = integer(0)
        for buffer in self._rows_of_steps():
            row, own = self._row_at(rows, buffer), rows["count"]
            if buffer.startswith("sequence") or buffer == self.input:
                own = builder.select(self._is_packed(), integer(0), own)
            start, size = end, builder.mul(own, self.number(f"{buffer}.row"))
            end = builder.add(start, size)
            self.wanted.append((self.row_at(buffer, row), start, end))
        builder.store(integer(0), self.asked)

    def _ask(self, address: ir.Value, numbers: ir.Value) -> ir.Value:
        """Where the next so many numbers lie that the next step wants; else `address`."""
        builder = self.builder
        at = builder.load(self.asked, typ=I64)
        builder.store(builder.add(at, numbers), self.asked)
        for base, start, end in reversed(self.wanted):
            here = offset(builder, base, builder.sub(at, start))
            address = builder.select(builder.icmp_signed("<", at, end), here, address)
        return address

    def _rows_of_steps(self) -> list[str]:
        """Buffers that have rows of their own for each step, each piece of memory once.

        What is only read comes first: writing can wait.
        """
        twin, written = "previous" if self.is_forward else "state", set()
        for phase in self.phases:
            if isinstance(phase, Product):
                written.add(phase.result)
            elif isinstance(phase, Pointwise):
                written |= {place.buffer for _, place in phase.stores}
        others = (*PER_BATCH_ROW, *PER_UNIT, twin, "grad_vectors", "zoneout")
        found = []
        for buffer in sorted(_buffers(self.phases), key=lambda b: b in written):
            kind, _ = split_name(buffer)
            if kind not in others and not self._is_scratch(kind):
                found.append(buffer)
        return found

    # -- before and after the loop ----------------------------------------------------------------

    def _pack_weights(self) -> None:
        """This thread's share of them, by the function whose address is `pack`."""
        builder, threads = self.builder, self.number("threads")
        pack = Code(self.pointer("pack"), ir.FunctionType(ir.VoidType(), [POINTER, I64, I64]))
        part = builder.srem(self.thread, threads)  # with one at work, it packs for every group
        for weight in dict.fromkeys(p.weight for p in self.phases if isinstance(p, Product)):
            first = integer(self.layout.places[f"weight.{weight}.{PACK_ARGUMENTS[0]}"])
            own = builder.gep(self.arguments, [first], source_etype=I64)
            builder.call(pack, [own, part, threads])

    @contextmanager
    def _own_rows(self) -> Iterator[tuple[ir.Value, ir.Value, ir.Value]]:
        """This thread's share of the group's rows: (row of the group, of all groups, of x)."""
        builder = self.builder
        end = self.entry("first_rows", builder.add(self.group, integer(1)))
        count = builder.sub(end, self.first_row)
        with loop(builder, self.part, count, self.number("share")) as r:
            row = builder.add(self.first_row, r)
            yield r, row, self.entry("order", row)

    def _bring_states(self, table: ir.Value) -> None:
        """What the scan begins with, to where the first step looks for it."""
        builder = self.builder
        with self._own_rows() as (r, _, place):
            for k in range(len(self.plan.cell.states)):
                column = TABLE_COLUMNS.index(self._column("previous", k))
                first = self.entry("tables", builder.add(table, integer(column)))
                target = self.row_at(f"state{k}", builder.add(first, r))
                self._copy(self.row_at(f"start{k}", place), target, self._size(k))

    def _take_states(self) -> None:
        with self._own_rows() as (_, row, place):
            for k in range(len(self.plan.cell.states)):
                last = self.entry("other_last_rows" if self._is_in_turn(k) else "last_rows", row)
                target = self._result_row(f"last{k}", place, k)
                self._copy(self.row_at(f"state{k}", last), target, self._size(k))

    def _bring_gradients(self) -> None:
        """Gradients of the last states, or zeros."""
        builder = self.builder
        for k in range(len(self.plan.cell.states)):
            is_given = builder.icmp_unsigned("!=", self.number(f"grad_last{k}.at"), integer(0))
            with self._own_rows() as (_, row, place):
                target = self.row_at(f"carry{k}", row)
                self._copy(None, target, self._size(k))
                with builder.if_then(is_given):
                    self._copy(self.row_at(f"grad_last{k}", place), target, self._size(k))

    def _take_gradients(self) -> None:
        """Of the initial states, where they are asked for."""
        builder = self.builder
        for k in range(len(self.plan.cell.states)):
            is_asked = builder.icmp_unsigned("!=", self.number(f"grad_start{k}"), integer(0))
            with builder.if_then(is_asked), self._own_rows() as (_, row, place):
                also = None
                if self.plan.options.has_reset:
                    shift = builder.mul(row, self.number(f"carry{k}.row"))
                    also = offset(builder, self.pointer(f"initial{k}"), shift)
                target = self._result_row(f"grad_start{k}", place, k)
                self._copy(self.row_at(f"carry{k}", row), target, self._size(k), also)

    # -- a ragged batch's rows, from and to where they lie in (time, batch, …) --------------------

    @property
    def input(self) -> str:
        """The buffer of x, or of its gradient."""
        return "x" if self.is_forward else "grad_x"

    def _is_packed(self) -> ir.Value:
        """Whether the batch is ragged, so that rows that are kept have other places there."""
        return self.builder.icmp_signed("!=", self.number("sequence_places"), integer(0))

    def _divert_input(self) -> None:
        """Of a ragged batch, have products read and write a step's inputs side by side."""
        self.input_rows = {name: self.number(f"{self.input}.{name}") for name in ("at", "row")}
        for name, own in self.input_rows.items():
            step = self.number(f"step.{name}")
            self.loaded[f"{self.input}.{name}"] = self.builder.select(self._is_packed(), step, own)

    def _input_row(self, place: ir.Value) -> ir.Value:
        base = self.builder.inttoptr(self.input_rows["at"], POINTER)
        return offset(self.builder, base, self.builder.mul(place, self.input_rows["row"]))

    def _take_input(self) -> None:
        """This step's inputs, from where they lie."""
        builder, at_step = self.builder, self.at_step
        with builder.if_then(self._is_packed()), loop(builder, 0, at_step["count"]) as r:
            place = self.entry("sequence_places", builder.add(at_step["row"], r))
            target = self.row_at("step", builder.add(self.first_row, r))
            self._copy(self._input_row(place), target, self.number("input"))

    def _give_input(self, step: ir.Value) -> None:
        """The gradients of this step's inputs, to where they belong."""
        with self.builder.if_then(self._is_packed()):
            for _, row, is_real, place in self._places_at(self.at_step, step):
                source = self.row_at("step", row)
                self._copy(source, self._input_row(place), self.number("input"), is_real=is_real)

    def _spread_states(self, table: ir.Value) -> None:
        """The sequences that are asked for, where they do not lie in the states' own memory."""
        builder = self.builder
        for k in _sequences(self.plan):
            name = f"sequence{k}"
            is_asked = builder.icmp_signed("!=", self.number(name), integer(0))
            with builder.if_then(is_asked), loop(builder, 0, self.number("steps")) as step:
                at_step = self._at_step(table, step)
                for r, _, is_real, place in self._places_at(at_step, step):
                    own = builder.select(is_real, r, integer(0))
                    source = self.row_at(f"state{k}", builder.add(at_step["state"], own))
                    target = self._result_row(name, place, k)
                    self._copy(source, target, self._size(k), is_real=is_real)

    def _places_at(
        self, at_step: dict[str, ir.Value], step: ir.Value
    ) -> Iterator[tuple[ir.Value, ir.Value, ir.Value, ir.Value]]:
        """This thread's share of the group's rows at a step, in a loop around what follows.

        Yields the row of the group and of all groups, whether it has that step, and its place; if
        not, one past its length.
        """
        builder = self.builder
        with self._own_rows() as (r, row, own):
            is_real = builder.icmp_signed("<", r, at_step["count"])
            kept = builder.select(is_real, builder.add(at_step["row"], r), integer(0))
            place = self.entry("sequence_places", kept)
            past = builder.add(builder.mul(step, self.number("batch")), own)
            yield r, row, is_real, builder.select(is_real, place, past)

    # -- copies -----------------------------------------------------------------------------------

    def _size(self, k: int) -> ir.Value:
        return self.number("output" if k == 0 else "hidden")

    def _result_row(self, name: str, place: ir.Value, k: int) -> ir.Value:
        shift = self.builder.mul(place, self._size(k))
        return offset(self.builder, self.pointer(name), shift)

    def _copy(
        self,
        source: ir.Value | None,
        target: ir.Value,
        count: ir.Value,
        also: ir.Value | None = None,
        is_real: ir.Value | None = None,
    ) -> None:
        """Numbers to `target`, with those of `also` added; zeros if the row is not real.

        Without a source, zeros, up to whole vectors.
        """
        builder, v = self.builder, Vectors(self.builder, self.host)

        def move(j: ir.Value, mask: ir.Value | None) -> None:
            if source is None:
                v.store(v.constant(0.0), offset(builder, target, j))
                return
            value = v.load(offset(builder, source, j), mask)
            if also is not None:
                value = v.add(value, v.load(offset(builder, also, j), mask))
            if is_real is not None:
                value = builder.select(is_real, value, v.constant(0.0))
            v.store(value, offset(builder, target, j), mask)

        each_vector(v, count, move)

    # -- phases -----------------------------------------------------------------------------------

    def _phase(self, phase: Phase) -> None:
        if isinstance(phase, Product):
            self._product(phase)
        elif isinstance(phase, Pointwise):
            self._pointwise(phase)
        else:
            for k in phase.states:
                self._flush(k, phase.unit)
        if phase.joins:
            self._join()

    def _join(self) -> None:
        """Wait for the others of the group, if there are any."""
        builder, share = self.builder, self.number("share")
        with builder.if_then(builder.icmp_signed(">", share, integer(1))):
            target = builder.add(builder.load(self.target, typ=I64), share)
            builder.store(target, self.target)
            self._count_and_wait(self.barrier, target)

    def _meet(self) -> None:
        """Wait for all others, once in a pass."""
        builder, threads = self.builder, self.number("threads")
        with builder.if_then(builder.icmp_signed(">", threads, integer(1))):
            self._count_and_wait(self.pointer("meeting"), threads)

    def _count_and_wait(self, counter: ir.Value, target: ir.Value) -> None:
        """Count up, and wait until as many have as `target` says."""
        builder = self.builder
        builder.fence("release")
        builder.atomic_rmw("add", counter, integer(1), "acq_rel")
        wait = builder.append_basic_block("wait")
        spin = builder.append_basic_block("spin")
        done = builder.append_basic_block("done")
        before = builder.block
        builder.branch(wait)
        builder.position_at_end(wait)
        spins = builder.phi(I64)
        spins.add_incoming(integer(0), before)
        now = builder.load_atomic(counter, "acquire", 8, typ=I64)
        builder.cbranch(builder.icmp_signed(">=", now, target), done, spin)
        builder.position_at_end(spin)
        more = builder.add(spins, integer(1))
        is_long = builder.icmp_signed(">", more, integer(SPINS_BEFORE_YIELD))
        with builder.if_then(is_long, likely=False):
            builder.call(Code(self.pointer("give_way"), ir.FunctionType(I32, [])), [])
        spins.add_incoming(more, builder.block)
        builder.branch(wait)
        builder.position_at_end(done)

    def _row_of(self, buffer: str, r: ir.Value) -> ir.Value:
        """The row of a buffer that belongs to row r of the group at this step."""
        builder = self.builder
        kind, _ = split_name(buffer)
        if kind in PER_BATCH_ROW or self._is_scratch(kind):
            return builder.add(self.first_row, r)
        if self.moves_input and buffer == self.input:
            own = builder.select(self._is_packed(), self.first_row, self.at_step["row"])
            return builder.add(own, r)
        row = builder.add(self._row_at(self.at_step, buffer), r)
        if kind == "sequence":  # its gradients lie as they came; of a full batch, in turn
            return place_of(builder, self.number("sequence_places"), row, self.arguments)
        return row

    def _row_at(self, at_step: dict[str, ir.Value], buffer: str) -> ir.Value:
        """The group's first row at a step in a buffer that has rows for each step."""
        kind, k = split_name(buffer)
        if kind not in ("state", "previous"):
            return at_step["row"]
        return at_step[self._column(kind, k)]

    def _column(self, kind: str, k: int) -> str:
        """Of the tables, for the rows of a state's buffer."""
        return f"other_{kind}" if self._is_in_turn(k) else kind

    def _is_in_turn(self, k: int) -> bool:
        """Whether a state is kept for two steps only."""
        return k > 0 and not self.plan.options.keeps_all

    def _is_scratch(self, kind: str) -> bool:
        if kind == "gates":
            return self.plan.options.has_input and not self.plan.keeps_gates
        return kind in SCRATCH_WITHOUT_GRADIENT and not self.plan.options.needs_gradient

    def _row_address(self, buffer: str, r: ir.Value) -> ir.Value:
        builder = self.builder
        kind, k = split_name(buffer)
        base = self.pointer(f"{buffer}.at")
        if kind in PER_UNIT:
            return base
        if kind == "grad_vectors":
            return offset(builder, base, builder.mul(self.thread, self.number(f"{buffer}.row")))
        address = offset(
            builder, base, builder.mul(self._row_of(buffer, r), self.number(f"{buffer}.row"))
        )
        if kind == "zoneout":
            batch_row = builder.add(self.first_row, r)
            return offset(builder, address, builder.mul(batch_row, self.number(f"{buffer}.batch")))
        if kind == "previous" and self.plan.options.has_reset:
            place = self.entry("order", builder.add(self.first_row, r))
            return builder.select(self._is_reset(r), self.row_at(f"start{k}", place), address)
        return address

    def _is_reset(self, r: ir.Value) -> ir.Value:
        builder = self.builder
        slot = builder.gep(
            self.pointer("resets"), [builder.add(self.at_step["row"], r)], source_etype=I8
        )
        return builder.icmp_unsigned("!=", builder.load(slot, typ=I8), ir.Constant(I8, 0))

    def _product(self, phase: Product) -> None:
        if self.plan.options.is_step:
            self._product_of_plain_weights(phase)
        else:
            self._product_of_packed_weights(phase)

    def _product_of_plain_weights(self, phase: Product) -> None:
        """Row by row of the weight as it lies: for one step, packing would take longer."""
        builder, (blocks, unit) = self.builder, phase.width
        units, lanes = self.number(unit), integer(self.host.lanes)
        depth = builder.mul(integer(phase.depth[0]), self.number(phase.depth[1]))
        first, stop = (builder.mul(bound, lanes) for bound in self.ranges[unit])
        count = builder.sub(least(builder, stop, units), first)
        weight, dots = self.pointer(f"weight.{phase.weight}"), dot_products(self.module, self.host)
        lda, ldc = self.number(f"{phase.operand}.row"), self.number(f"{phase.result}.row")
        a, c = self._row_address_plain(phase.operand), self._row_address_plain(phase.result)
        with loop(builder, 0, self.at_step["count"]) as r, loop(builder, 0, blocks) as block:
            row = builder.add(builder.mul(block, units), first)
            shift = builder.add(builder.mul(block, self.number(f"{phase.result}.block")), first)
            at = offset(builder, c, builder.add(builder.mul(r, ldc), shift))
            from_ = offset(builder, a, builder.mul(r, lda))
            rows = offset(builder, weight, builder.mul(row, depth))
            builder.call(dots, [from_, rows, depth, at, count])

    def _product_of_packed_weights(self, phase: Product) -> None:
        builder = self.builder
        depth = builder.mul(integer(phase.depth[0]), self.number(phase.depth[1]))
        rows = self._operand(phase)
        packed = depth
        if self.parts:
            v, rows = Vectors(builder, self.host), self._in_couples(rows, depth)
            depth = row_size_of(v, depth, self.parts)
            packed = packed_rows(v, depth, self.parts)
        table, count = self.pointer("tiles"), self.at_step["count"]
        is_shared = builder.icmp_signed(">", self.number("share"), integer(1))
        for panel, block, column, vectors in self._panels(phase, packed):
            result, start = self._result(phase, block, column), self._start(phase, block, column)
            if self.uses_units:
                width = integer(vectors * self.host.lanes)
                scales = offset(builder, panel, builder.mul(depth, width))
                call_products(
                    *(builder, table, self.configuration, count),
                    Matrices(*rows, panel, width, scales, depth, *result),
                    width,
                    adds=integer(int(phase.adds)),
                    start=start,
                    is_far=is_shared,
                )
                continue
            call_tiles(
                *(builder, self.host, table, count),
                *(rows, (panel, depth), result),
                vectors=vectors,
                adds=phase.adds,
                start=start,
                ask=self._ask,
                is_far=is_shared,
            )

    def _panels(
        self, phase: Product, size: ir.Value
    ) -> Iterator[tuple[ir.Value, ir.Value, ir.Value, int]]:
        """This thread's panels of the weight, each as deep as `size`, in loops around what follows.

        Yields where one lies, its block, its first column there, and its vectors.
        """
        builder, lanes, (blocks, unit) = self.builder, self.host.lanes, phase.width
        vectors = ceiling(builder, self.number(unit), lanes)
        first, stop = self.ranges[unit]
        pairs = builder.sdiv(vectors, integer(2))
        panel_size = builder.mul(size, integer(2 * lanes))
        weight = self.pointer(f"weight.{phase.weight}.target")
        first_pair = builder.sdiv(first, integer(2))
        stop_pair = builder.sdiv(stop, integer(2))
        with (
            loop(builder, first_pair, stop_pair) as pair,
            loop(builder, integer(0), integer(blocks)) as block,
        ):
            back = builder.sub(builder.add(first_pair, stop_pair), pair)
            # back and forth, step by step: what the last step read last is still near
            pair = builder.select(self.is_odd, builder.sub(back, integer(1)), pair)
            number = builder.add(builder.mul(pair, integer(blocks)), block)
            panel = offset(builder, weight, builder.mul(number, panel_size))
            yield panel, block, builder.mul(pair, integer(2 * lanes)), MAX_VECTORS
        has_single = builder.icmp_signed("==", builder.and_(stop, integer(1)), integer(1))
        with builder.if_then(has_single), loop(builder, integer(0), integer(blocks)) as block:
            singles = builder.mul(builder.mul(pairs, integer(blocks)), panel_size)
            before = builder.mul(block, builder.mul(size, integer(lanes)))
            panel = offset(builder, weight, builder.add(singles, before))
            yield panel, block, builder.mul(pairs, integer(2 * lanes)), 1

    def _operand(self, phase: Product) -> tuple[ir.Value, ir.Value]:
        """The group's first row of the operand, and how far apart its rows are."""
        a = self._row_address_plain(phase.operand)
        start = self.builder.mul(integer(phase.first), self.number(f"{phase.operand}.block"))
        return offset(self.builder, a, start), self.number(f"{phase.operand}.row")

    def _in_couples(
        self, rows: tuple[ir.Value, ir.Value], depth: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """The group's rows as couples in this thread's own memory; (address, stride)."""
        builder, v = self.builder, Vectors(self.builder, self.host)
        own = builder.mul(self.thread, self.number("couples_thread"))
        target = offset(builder, self.pointer("couples"), own), self.number("couples_row")
        split_rows(v, rows, self.at_step["count"], depth, target, self.parts)
        return target

    def _result(
        self, phase: Product, block: ir.Value, column: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """Where a product of the group's rows with a panel goes; (address, stride)."""
        builder = self.builder
        shift = builder.mul(block, self.number(f"{phase.result}.block"))
        first = self._row_address_plain(phase.result)
        return offset(builder, first, builder.add(shift, column)), self.number(
            f"{phase.result}.row"
        )

    def _start(self, phase: Product, block: ir.Value, column: ir.Value) -> ir.Value | None:
        """Where the numbers lie that every row's sums begin with."""
        if not phase.bias:
            return None
        shift = self.builder.mul(block, self.number(f"{phase.bias}.block"))
        bias = self.pointer(f"{phase.bias}.at")
        return offset(self.builder, bias, self.builder.add(shift, column))

    def _row_address_plain(self, buffer: str) -> ir.Value:
        """The first row of the group in a buffer that has no row that lies elsewhere."""
        row = self._row_of(buffer, integer(0))
        base = self.pointer(f"{buffer}.at")
        return offset(self.builder, base, self.builder.mul(row, self.number(f"{buffer}.row")))

    def _pointwise(self, phase: Pointwise) -> None:
        builder = self.builder
        if phase.is_row_wise:
            units = self.number(phase.unit)
            lanes = integer(self.host.lanes)
            vectors = builder.sdiv(builder.add(units, integer(self.host.lanes - 1)), lanes)
            first, stop, start, step = integer(0), vectors, self.part, self.number("share")
        else:
            first, stop = self.ranges[phase.unit]
            start, step = integer(0), integer(1)
        asks = phase.is_row_wise and not self.plan.options.is_step
        with loop(builder, start, self.at_step["count"], step) as r:
            addresses: dict[str, ir.Value] = {}

            def address(place: Place) -> ir.Value:
                if place.buffer not in addresses:
                    addresses[place.buffer] = self._row_address(place.buffer, r)
                shift = builder.mul(integer(place.block), self.number(f"{place.buffer}.block"))
                return offset(builder, addresses[place.buffer], shift)

            RowEmitter(
                builder,
                self.host,
                self.plan.graph,
                phase,
                address,
                self._scratch_address,
                first,
                stop,
                self.number(phase.unit),
                self._upcoming(phase, r) if asks else (),
            ).emit()

    def _upcoming(self, phase: Pointwise, r: ir.Value) -> list[ir.Value]:
        """The blocks that this thread loads for the row after r, here or in the next step.

        What a row-wise phase kept for the way back is more than products have asked for until it is
        due: asked for a row ahead, the way back takes 8 % less, forward 4 % (LSTM with layer
        normalisation of 256, batch 32, Granite Rapids). Asking for what is only written costs time.
        """
        builder, following = self.builder, self.builder.add(r, self.number("share"))
        is_last = builder.icmp_signed(">=", following, self.at_step["count"])
        asked, blocks = self._rows_of_steps(), []
        for place in dict.fromkeys(p for load in phase.loads.values() for p in load):
            buffer = place.buffer
            if buffer in asked:
                here = builder.add(self._row_at(self.at_step, buffer), following)
                there = builder.add(self._row_at(self.next_step, buffer), self.part)
                row = self.row_at(buffer, builder.select(is_last, there, here))
                shift = builder.mul(integer(place.block), self.number(f"{buffer}.block"))
                blocks.append(offset(builder, row, shift))
        return blocks

    def _scratch_address(self, block: int) -> ir.Value:
        builder = self.builder
        own = builder.mul(self.thread, self.number("scratch_thread"))
        lanes = self.host.lanes
        padded = builder.and_(
            builder.add(self.number("hidden"), integer(lanes - 1)), integer(-lanes)
        )
        shift = builder.add(own, builder.mul(padded, integer(block)))
        return offset(builder, self.pointer("scratch"), shift)

    def _flush(self, k: int, unit: str) -> None:
        """Rows that were reset before this step: their gradient goes to the initial state."""
        builder, lanes = self.builder, self.host.lanes
        v = Vectors(builder, self.host)
        first, stop = self.ranges[unit]
        carry = f"carry{k}"
        with (
            loop(builder, integer(0), self.at_step["count"]) as r,
            builder.if_then(self._is_reset(r)),
        ):
            shift = builder.mul(builder.add(self.first_row, r), self.number(f"{carry}.row"))
            source = offset(builder, self.pointer(f"{carry}.at"), shift)
            target = offset(builder, self.pointer(f"initial{k}"), shift)
            with loop(builder, first, stop) as vector:
                j = builder.mul(vector, integer(lanes))
                here, there = offset(builder, source, j), offset(builder, target, j)
                v.store(v.add(v.load(there), v.load(here)), there)
                v.store(v.constant(0.0), here)
