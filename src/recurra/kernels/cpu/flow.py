"""Control flow in LLVM code: loops, arguments, calls of an address, entries for a team."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from llvmlite import ir

from recurra.kernels.cpu.vector import I32, I64, POINTER, Vectors, integer, offset


@contextmanager
def loop(
    builder: ir.IRBuilder,
    start: int | ir.Value,
    stop: int | ir.Value,
    step: int | ir.Value = 1,
) -> Iterator[ir.Value]:
    """`for index in range(start, stop, step)`; `with loop(...) as index`."""
    start, stop, step = (integer(i) if isinstance(i, int) else i for i in (start, stop, step))
    before, function = builder.block, builder.function
    body, after = (function.append_basic_block(name) for name in ("body", "after"))
    builder.cbranch(builder.icmp_signed("<", start, stop), body, after)
    builder.position_at_end(body)
    index = builder.phi(I64)
    index.add_incoming(start, before)
    yield index
    following = builder.add(index, step)
    index.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, stop), body, after)
    builder.position_at_end(after)


def each_vector(
    v: Vectors, count: ir.Value, work: Callable[[ir.Value, ir.Value | None], None]
) -> None:
    """`work(j, mask)` for the first number j of each vector of a row of so many numbers.

    The mask is None where the vector is whole.
    """
    builder, whole = v.builder, v.builder.and_(count, integer(-v.lanes))
    with loop(builder, 0, whole, v.lanes) as j:
        work(j, None)
    with builder.if_then(builder.icmp_signed("<", whole, count)):
        work(whole, v.mask_below(builder.sub(count, whole)))


class Code:
    """A function behind a code address, as the builder's `call` wants one."""

    def __init__(self, address: ir.Value, type_: ir.FunctionType) -> None:
        self.function_type, self.type = type_, address.type
        self.get_reference = address.get_reference


def code_in(
    builder: ir.IRBuilder, table: ir.Value, place: ir.Value, type_: ir.FunctionType
) -> Code:
    """The function whose address is at a place of a table."""
    entry = builder.gep(table, [place], source_etype=I64)
    return Code(builder.inttoptr(builder.load(entry, typ=I64, align=8), POINTER), type_)


def row_of_block(
    v: Vectors,
    source: ir.Value,
    distance: ir.Value,
    number: ir.Value,
    *,
    rows: ir.Value | None = None,
    mask: ir.Value | None = None,
) -> ir.Value:
    """A vector of a block's row of that number; zeros if the block has no more than `rows`."""
    at = offset(v.builder, source, v.builder.mul(distance, number))
    if rows is None:
        return v.load(at, mask)
    is_there = v.builder.icmp_signed("<", number, rows)
    own = v.load(v.builder.select(is_there, at, source), mask)
    return v.builder.select(is_there, own, v.constant(0.0))


def argument(builder: ir.IRBuilder, arguments: ir.Value, index: int) -> ir.Value:
    """The 64-bit number at an index of an array of arguments."""
    slot = builder.gep(arguments, [integer(index)], source_etype=I64)
    return builder.load(slot, typ=I64, align=8)


class Arguments:
    """The arguments of a function by name, and this thread's share of some work."""

    def __init__(self, function: ir.Function, names: tuple[str, ...]) -> None:
        arguments, self.thread, self.threads = function.args
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.values = {n: argument(self.builder, arguments, i) for i, n in enumerate(names)}

    def __getitem__(self, name: str) -> ir.Value:
        return self.values[name]

    def at(self, name: str, elements: ir.Value) -> ir.Value:
        return offset(self.builder, self.builder.inttoptr(self[name], POINTER), elements)

    def share(self, count: ir.Value) -> tuple[ir.Value, ir.Value]:
        builder = self.builder
        after = builder.add(self.thread, integer(1))
        first, stop = (
            builder.sdiv(builder.mul(count, part), self.threads) for part in (self.thread, after)
        )
        return first, stop


def place_of(builder: ir.IRBuilder, table: ir.Value, row: ir.Value, anywhere: ir.Value) -> ir.Value:
    """Where a row lies by a table of 64-bit numbers, whose address is `table`; 0: where it is.

    Without branches: if there is no table, a number is read `anywhere` that memory can be read.
    """
    has_table = builder.icmp_signed("!=", table, integer(0))
    places = builder.select(has_table, builder.inttoptr(table, POINTER), anywhere)
    index = builder.select(has_table, row, integer(0))
    place = builder.load(builder.gep(places, [index], source_etype=I64), typ=I64, align=8)
    return builder.select(has_table, place, row)


def least(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def ceiling(builder: ir.IRBuilder, a: ir.Value, b: int) -> ir.Value:
    """⌈a/b⌉."""
    return builder.sdiv(builder.add(a, integer(b - 1)), integer(b))


def even(builder: ir.IRBuilder, count: ir.Value, most: int, *, step: int) -> ir.Value:
    """The size of nearly equal pieces, as few as there are of `most`; both in whole steps."""
    pieces = builder.mul(ceiling(builder, count, most), integer(step))
    above = builder.add(count, builder.sub(pieces, integer(1)))
    return builder.mul(builder.sdiv(above, pieces), integer(step))


def ask(builder: ir.IRBuilder, arguments: ir.Value, index: int) -> ir.Value:
    """What the C function `int f(void)` whose address is an argument returns."""
    code = builder.inttoptr(argument(builder, arguments, index), POINTER)
    return builder.sext(builder.call(Code(code, ir.FunctionType(I32, [])), []), I64)


def build_entry(module: ir.Module, run: ir.Function, names: Sequence[str]) -> None:
    """`…_entry(arguments)`, which calls `run(arguments, thread, threads)` as OpenMP numbers them.

    Args:
        module: to put it in.
        run: what to call.
        names: of the arguments; `thread_number` and `thread_count` are OpenMP's functions.
    """
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), f"{run.name}_entry")
    (arguments,) = entry.args
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    team = [ask(builder, arguments, names.index(n)) for n in ("thread_number", "thread_count")]
    builder.call(run, [arguments, *team])
    builder.ret_void()
