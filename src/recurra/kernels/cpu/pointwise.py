"""One phase of pointwise work as LLVM code: a graph, over the units of one row.

Graphs with sums over the row need several passes: what a sum goes into can only begin when the
row is through. Pass p computes what needs p sums after one another. Values that a later pass needs
again are computed again if that is cheap, and otherwise wait in scratch memory; results for places
that nothing is loaded from are stored at once, and wait there. All else is stored in the last pass,
so that no pass reads what an earlier one has overwritten.
"""

from collections.abc import Callable, Sequence

from llvmlite import ir

from recurra.kernels.cpu.flow import loop
from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.vector import F32, I64, Vectors, integer, offset
from recurra.kernels.graph import DEAR, REDUCTIONS, Graph
from recurra.kernels.plan import Place, Pointwise

# Operations in a row that are still done again rather than kept for the next pass.
CHEAP = 4
Address = Callable[[Place], ir.Value]


class Passes:
    """In which pass each of a phase's values is ready, and where values wait for a later pass."""

    def __init__(self, graph: Graph, phase: Pointwise) -> None:
        self.graph, self.phase = graph, phase
        self.ready: dict[int, int] = {}
        targets = [node for node, _ in phase.stores]
        self.order = graph.needed(targets, phase.loads)
        for node in self.order:
            self.ready[node] = self._ready(node)
        self.last = max(self.ready.values(), default=0)
        self.scratch: dict[int, int] = {}
        self.placed: dict[int, Place] = {}
        loaded = {place for places in phase.loads.values() for place in places}
        self._free = {n: p for n, p in phase.stores if p not in loaded | phase.adds}
        for index in range(self.last + 1):
            for node in self.computed(index):
                self._settle(node, index)

    def _ready(self, node: int) -> int:
        found = self.graph.nodes[node]
        if node in self.phase.loads or not found.args:
            return 0
        arguments = max(self.ready[a] for a in found.args)
        return arguments + 1 if found.op in REDUCTIONS else arguments

    def reductions(self, index: int) -> list[int]:
        """Sums that are formed during a pass."""
        return [
            n
            for n in self.order
            if self.graph.nodes[n].op in REDUCTIONS
            and n not in self.phase.loads
            and self.ready[n] == index + 1
        ]

    def computed(self, index: int) -> list[int]:
        """Values per unit that a pass must have: for its sums, or in the last one to store."""
        wanted = [self.graph.nodes[n].args[0] for n in self.reductions(index)]
        if index == self.last:
            wanted += [n for n, place in self.phase.stores if self.placed.get(n) != place]
        # those that others are computed from come first: if one waits in scratch, they need not
        return sorted({n for n in wanted if not self.graph.is_row(n)})

    def _settle(self, node: int, index: int) -> None:
        """See that a value can be had in a pass: note what has to wait in scratch."""
        if self.is_at_hand(node):
            return
        if self.ready[node] < index and node in self._free:
            self.placed[node] = self._free[node]
        elif self.ready[node] < index and self._is_worth_keeping(node):
            self.scratch[node] = len(self.scratch)
        self._settle_again(node, self.ready[node] if self.waits(node) else index)

    def _settle_again(self, node: int, index: int) -> None:
        for argument in self.graph.nodes[node].args:
            self._settle(argument, index)

    def is_at_hand(self, node: int) -> bool:
        """Loads, whole-row numbers, and what waits."""
        return node in self.phase.loads or self.graph.is_row(node) or self.waits(node)

    def waits(self, node: int) -> bool:
        return node in self.scratch or node in self.placed

    def _is_worth_keeping(self, node: int) -> bool:
        return self.graph.nodes[node].op in DEAR or self._effort(node) > CHEAP

    def _effort(self, node: int) -> int:
        if self.is_at_hand(node):
            return 0
        found = self.graph.nodes[node]
        if found.op in DEAR:
            return CHEAP + 1
        return 1 + sum(self._effort(a) for a in found.args)


class RowEmitter:
    """Writes one row's pointwise work at the builder's position.

    Args:
        builder, host: where and for what.
        graph, phase: what.
        address: the address of block `place.block` of the current row in a buffer.
        scratch: the address of this thread's scratch, `padded` numbers a block.
        first, stop: the range of vectors of units.
        units: how many units there are; the last vector may be partly beyond.
        upcoming: blocks of the next row, which the last pass asks the memory for.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        host: Host,
        graph: Graph,
        phase: Pointwise,
        address: Address,
        scratch: Callable[[int], ir.Value],
        first: ir.Value,
        stop: ir.Value,
        units: ir.Value,
        upcoming: Sequence[ir.Value] = (),
    ) -> None:
        self.builder, self.host, self.graph, self.phase = builder, host, graph, phase
        self.v = Vectors(builder, host)
        self.scratch, self.first, self.stop, self.units = scratch, first, stop, units
        self.passes, self.upcoming = Passes(graph, phase), upcoming
        places = {p for load in phase.loads.values() for p in load} | {p for _, p in phase.stores}
        self.base = {p: address(p) for p in sorted(places, key=lambda p: (p.buffer, p.block))}
        self.rows: dict[int, ir.Value] = {}

    def emit(self) -> None:
        self._load_numbers()
        for index in range(self.passes.last + 1):
            self._row_arithmetic(index)
            self._pass(index)
        self._store_numbers()

    # -- numbers for the whole row, held as vectors of equal lanes ---------------------------------

    def _load_numbers(self) -> None:
        for node, places in self.phase.loads.items():
            if self.graph.is_row(node):
                scalar = self.builder.load(self.base[places[0]], typ=F32, align=4)
                self.rows[node] = self.v.spread(scalar)

    def _row_arithmetic(self, index: int) -> None:
        """Operations on whole-row numbers that are ready before a pass."""
        for node in self.passes.order:
            found = self.graph.nodes[node]
            is_due = self.passes.ready[node] == index and node not in self.rows
            if not (is_due and self.graph.is_row(node)) or found.op in REDUCTIONS:
                continue
            if found.op == "constant":
                self.rows[node] = self.v.constant(found.value)
            elif found.op == "size":
                self.rows[node] = self.v.spread(self.builder.sitofp(self.units, F32))
            else:
                self.rows[node] = self.v.apply(found.op, *(self.rows[a] for a in found.args))

    def _store_numbers(self) -> None:
        for node, place in self.phase.stores:
            if place.buffer == "numbers":
                first = self.builder.extract_element(self.rows[node], ir.Constant(I64, 0))
                self.builder.store(first, self.base[place], align=4)

    # -- a pass over the units ---------------------------------------------------------------------

    def _pass(self, index: int) -> None:
        sums = {n: self._open_sum(n) for n in self.passes.reductions(index)}
        builder, lanes = self.builder, self.host.lanes
        whole = builder.sdiv(self.units, integer(lanes))
        is_less = builder.icmp_signed("<", self.stop, whole)
        full_stop = builder.select(is_less, self.stop, whole)
        with loop(builder, self.first, full_stop) as vector:
            self._vector(index, builder.mul(vector, integer(lanes)), None, sums)
        with builder.if_then(builder.icmp_signed(">", self.stop, whole)):
            j = builder.mul(whole, integer(lanes))
            mask = self.v.mask_below(builder.sub(self.units, j))
            self._vector(index, j, mask, sums)
        for node, slot in sums.items():
            value = builder.load(slot, typ=self.v.type, align=4 * lanes)
            is_sum = self.graph.nodes[node].op == "row_sum"
            self.rows[node] = self.v.spread(
                self.v.total(value) if is_sum else self.v.largest(value)
            )

    def _open_sum(self, node: int) -> ir.Value:
        with self.builder.goto_entry_block():
            slot = self.builder.alloca(self.v.type)
            slot.align = 4 * self.host.lanes
        self.builder.store(self._neutral(node), slot, align=4 * self.host.lanes)
        return slot

    def _neutral(self, node: int) -> ir.Constant:
        is_sum = self.graph.nodes[node].op == "row_sum"
        return self.v.constant(0.0 if is_sum else float("-inf"))

    def _vector(
        self, index: int, j: ir.Value, mask: ir.Value | None, sums: dict[int, ir.Value]
    ) -> None:
        values: dict[int, ir.Value] = {}
        for block in self.upcoming if index == self.passes.last else ():
            self.v.prefetch(offset(self.builder, block, j), nearness=3)
        for node in self.passes.computed(index):
            self._value(node, index, j, mask, values)
        for node in (*self.passes.scratch, *self.passes.placed):
            if self.passes.ready[node] == index:
                self._put_by(node, self._value(node, index, j, mask, values), j, mask)
        for node, slot in sums.items():
            value = values[self.graph.nodes[node].args[0]]
            if mask is not None:
                value = self.v.where(mask, value, self._neutral(node))
            self._add_to_sum(node, slot, value)
        if index == self.passes.last:
            self._store(j, mask, values)

    def _put_by(self, node: int, value: ir.Value, j: ir.Value, mask: ir.Value | None) -> None:
        """Store what waits for a later pass; scratch has room for whole vectors."""
        place = self.passes.placed.get(node)
        base = self.scratch(self.passes.scratch[node]) if place is None else self.base[place]
        self.v.store(value, offset(self.builder, base, j), None if place is None else mask)

    def _add_to_sum(self, node: int, slot: ir.Value, value: ir.Value) -> None:
        align = 4 * self.host.lanes
        old = self.builder.load(slot, typ=self.v.type, align=align)
        is_sum = self.graph.nodes[node].op == "row_sum"
        new = self.v.add(old, value) if is_sum else self.v.maximum(old, value)
        self.builder.store(new, slot, align=align)

    def _value(
        self,
        node: int,
        index: int,
        j: ir.Value,
        mask: ir.Value | None,
        values: dict[int, ir.Value],
    ) -> ir.Value:
        if node in self.rows:
            return self.rows[node]
        if node not in values:
            if node in self.phase.loads:
                loaded = [self._load(p, j, mask) for p in self.phase.loads[node]]
                total = loaded[0]
                for more in loaded[1:]:
                    total = self.v.add(total, more)
                values[node] = total
            elif self.passes.waits(node) and self.passes.ready[node] < index:
                values[node] = self._take_up(node, j, mask)
            else:
                found = self.graph.nodes[node]
                args = [self._value(a, index, j, mask, values) for a in found.args]
                values[node] = self.v.apply(found.op, *args)
        return values[node]

    def _take_up(self, node: int, j: ir.Value, mask: ir.Value | None) -> ir.Value:
        if node in self.passes.placed:
            return self._load(self.passes.placed[node], j, mask)
        return self.v.load(offset(self.builder, self.scratch(self.passes.scratch[node]), j))

    def _load(self, place: Place, j: ir.Value, mask: ir.Value | None) -> ir.Value:
        return self.v.load(offset(self.builder, self.base[place], j), mask)

    def _store(self, j: ir.Value, mask: ir.Value | None, values: dict[int, ir.Value]) -> None:
        new = []
        for node, place in self.phase.stores:
            if place.buffer == "numbers" or self.passes.placed.get(node) == place:
                continue
            value = self.rows[node] if node in self.rows else values[node]
            if place in self.phase.adds:
                value = self.v.add(self._load(place, j, mask), value)
            new.append((value, place))
        for value, place in new:
            self.v.store(value, offset(self.builder, self.base[place], j), mask)
