"""LLVM code that lays out the rows of a ragged batch; what is written is told in `schedule`.

A batch of short sequences runs for a millisecond, and has lengths that no other has, so its layout
is made every time.
"""

from llvmlite import ir

from recurra.kernels.cpu.flow import argument, loop
from recurra.kernels.cpu.vector import I64, POINTER, integer

# What `tables` has of each step.
TABLE_COLUMNS = ("count", "row", "state", "previous", "other_state", "other_previous")
# What a scan's code is told of a schedule; but for the first, the table whose address it is.
SCHEDULE_ARGUMENTS = {
    "steps": "",
    "tables": "tables",
    "first_rows": "first_rows",
    "order": "order",
    "last_rows": "last",
    "other_last_rows": "last_of_two",
    "sequence_places": "places",
}
# In the order of memory. All but the last two, which are for work, are a `Schedule`'s; `arguments`
# has the above. Behind `lengths` there is memory.
TABLES = (
    "arguments", "first_rows", "tables", "order", "lengths", "last", "last_of_two", "places",
    "previous", "kept", "starts", "by_length",
)  # fmt: skip
# given: the lengths; numbers: the memory; firsts: of each table, its first number there
ARGUMENTS = ("time", "batch", "groups", "is_reverse", "given", "numbers", "firsts")


def build_layout() -> ir.Module:
    """A module with `lay_out(arguments)`."""
    module = ir.Module("rows")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), "lay_out")
    rows = _Rows(function)
    rows.sort()
    rows.deal()
    rows.lay_out()
    rows.tell()
    rows.builder.ret_void()
    return module


class _Rows:
    def __init__(self, function: ir.Function) -> None:
        self.builder = builder = ir.IRBuilder(function.append_basic_block("entry"))
        given = {n: argument(builder, function.args[0], i) for i, n in enumerate(ARGUMENTS)}
        self.time, self.batch, self.groups = given["time"], given["batch"], given["groups"]
        self.is_reverse = builder.icmp_signed("!=", given["is_reverse"], integer(0))
        numbers, firsts = (builder.inttoptr(given[n], POINTER) for n in ("numbers", "firsts"))
        self.arrays = {"given": builder.inttoptr(given["given"], POINTER)}
        for i, name in enumerate(TABLES):
            first = argument(builder, firsts, i)
            self.arrays[name] = builder.gep(numbers, [first], source_etype=I64)
        # the next row, a group's rows that are still at work, and where the old states begin
        self.next, self.left, self.old = (builder.alloca(I64) for _ in range(3))

    def _slot(self, array: str, index: ir.Value) -> ir.Value:
        return self.builder.gep(self.arrays[array], [index], source_etype=I64)

    def get(self, array: str, index: ir.Value) -> ir.Value:
        return self.builder.load(self._slot(array, index), typ=I64, align=8)

    def set(self, array: str, index: ir.Value, value: ir.Value) -> None:
        self.builder.store(value, self._slot(array, index), align=8)

    def value(self, variable: ir.Value) -> ir.Value:
        return self.builder.load(variable, typ=I64)

    def advance(self, variable: ir.Value, by: ir.Value) -> None:
        self.builder.store(self.builder.add(self.value(variable), by), variable)

    def _in_turn(self, step: ir.Value, row: ir.Value) -> ir.Value:
        """Where a row's state before a step is if the states of two steps are kept in turn."""
        builder = self.builder
        turn = builder.and_(step, integer(1))
        return builder.add(builder.mul(turn, self.batch), row)

    def sort(self) -> None:
        """`by_length`: the batch's rows, the longest first, equal ones as they come."""
        builder, one = self.builder, integer(1)
        lengths = builder.add(self.time, one)
        with loop(builder, 0, lengths) as n:
            self.set("starts", n, integer(0))
        with loop(builder, 0, self.batch) as b:
            n = self.get("given", b)
            self.set("starts", n, builder.add(self.get("starts", n), one))
        builder.store(integer(0), self.next)
        with loop(builder, 0, lengths) as i:
            n = builder.sub(self.time, i)
            count = self.get("starts", n)
            self.set("starts", n, self.value(self.next))
            self.advance(self.next, count)
        with loop(builder, 0, self.batch) as b:
            n = self.get("given", b)
            place = self.get("starts", n)
            self.set("by_length", place, b)
            self.set("starts", n, builder.add(place, one))

    def deal(self) -> None:
        """`order`, `lengths`, `first_rows`, `last_of_two`; `last` for who has no step."""
        builder = self.builder
        builder.store(integer(0), self.next)
        with loop(builder, 0, self.groups) as group:
            self.set("first_rows", group, self.value(self.next))
            with loop(builder, group, self.batch, self.groups) as place:
                row, b = self.value(self.next), self.get("by_length", place)
                self.set("order", row, b)
                length = self.get("given", b)
                self.set("lengths", row, length)
                self.set("last", row, row)
                self.set("last_of_two", row, self._in_turn(length, row))
                self.advance(self.next, integer(1))
        self.set("first_rows", self.groups, self.value(self.next))

    def lay_out(self) -> None:
        """All else, step after step of each group."""
        builder = self.builder
        with loop(builder, 0, builder.mul(self.time, self.batch)) as place:
            self.set("kept", place, integer(-1))
        builder.store(integer(0), self.next)
        with loop(builder, 0, self.groups) as group:
            first = self.get("first_rows", group)
            end = self.get("first_rows", builder.add(group, integer(1)))
            builder.store(builder.sub(end, first), self.left)
            builder.store(first, self.old)
            with loop(builder, 0, self.time) as step:
                self._drop_finished(first, step)
                count, row, old = (self.value(v) for v in (self.left, self.next, self.old))
                new = builder.add(self.batch, row)
                turns = [self._in_turn(builder.add(step, integer(i)), first) for i in (1, 0)]
                index = builder.add(builder.mul(group, self.time), step)
                for k, number in enumerate((count, row, new, old, *turns)):
                    place = builder.add(builder.mul(index, integer(len(TABLE_COLUMNS))), integer(k))
                    self.set("tables", place, number)
                with loop(builder, 0, count) as member:
                    self._keep(builder.add(first, member), step, row, new, old, member)
                builder.store(new, self.old)
                self.advance(self.next, count)

    def tell(self) -> None:
        """`arguments`."""
        for i, table in enumerate(SCHEDULE_ARGUMENTS.values()):
            address = self.builder.ptrtoint(self.arrays[table], I64) if table else self.time
            self.set("arguments", integer(i), address)

    def _drop_finished(self, first: ir.Value, step: ir.Value) -> None:
        """From the end of the group, where the shortest are."""
        builder = self.builder
        check, drop, done = (builder.append_basic_block(n) for n in ("check", "drop", "done"))
        builder.branch(check)
        builder.position_at_end(check)
        left = self.value(self.left)
        before = builder.sub(left, integer(1))
        is_any = builder.icmp_signed(">", left, integer(0))
        last = builder.add(first, builder.select(is_any, before, integer(0)))
        shortest = self.get("lengths", last)
        is_over = builder.icmp_signed("<=", shortest, step)
        builder.cbranch(builder.and_(is_any, is_over), drop, done)
        builder.position_at_end(drop)
        builder.store(before, self.left)
        builder.branch(check)
        builder.position_at_end(done)

    def _keep(
        self,
        own: ir.Value,
        step: ir.Value,
        row: ir.Value,
        new: ir.Value,
        old: ir.Value,
        member: ir.Value,
    ) -> None:
        """What is known of a row at a step; `own`: of the batch, in the order of the groups."""
        builder = self.builder
        back = builder.sub(builder.sub(self.get("lengths", own), integer(1)), step)
        t = builder.select(self.is_reverse, back, step)
        place = builder.add(builder.mul(t, self.batch), self.get("order", own))
        kept = builder.add(row, member)
        self.set("places", kept, place)
        self.set("kept", place, kept)
        self.set("previous", kept, builder.add(old, member))
        self.set("last", own, builder.add(new, member))
