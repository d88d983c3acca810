"""LLVM code that copies: rows by their numbers, weights into the order in which tiles read them."""

from collections.abc import Callable
from functools import partial, reduce

from llvmlite import ir

from recurra.kernels.cpu.couples import (
    enlarge,
    larger,
    new_magnitude,
    packed_rows,
    row_size_of,
    scale_from,
    undoing_of,
)
from recurra.kernels.cpu.flow import Arguments, ceiling, each_vector, least, loop, row_of_block
from recurra.kernels.cpu.host import BFLOAT16, HALVES, Host
from recurra.kernels.cpu.vector import I64, POINTER, Vectors, integer, offset

CHUNK = 64  # of the depth, so that what is written to stays in the nearest cache
TAKE_ARGUMENTS = (
    "rows", "columns", "a", "a_row", "places", "c", "thread_number", "thread_count",
)  # fmt: skip
PACK_ARGUMENTS = ("source", "target", "blocks", "units", "depth", "thread_number", "thread_count")


def take_rows(function: ir.Function, host: Host) -> None:
    """Rows by their numbers, zeros for a number below zero."""
    given = Arguments(function, TAKE_ARGUMENTS)
    builder, v, columns = given.builder, Vectors(given.builder, host), given["columns"]
    first, stop = given.share(given["rows"])
    with loop(builder, first, stop) as r:
        places = builder.inttoptr(given["places"], POINTER)
        place = builder.load(builder.gep(places, [r], source_etype=I64), typ=I64, align=8)
        is_there = builder.icmp_signed(">=", place, integer(0))
        row = builder.select(is_there, place, integer(0))
        source = given.at("a", builder.mul(row, given["a_row"]))
        target = given.at("c", builder.mul(r, columns))

        def move(j: ir.Value, mask: ir.Value | None) -> None:
            value = v.load(offset(builder, source, j), mask)
            value = builder.select(is_there, value, v.constant(0.0))
            v.store(value, offset(builder, target, j), mask)

        each_vector(v, columns, move)
    builder.ret_void()


def pack_units(function: ir.Function, host: Host, *, parts: int) -> None:
    """(blocks, units, depth) to pairs of vectors of units: [pair][block][depth][unit].

    With parts, there are couples in the place of the depth's numbers; see `couples`. What undoes
    the scales of HALVES lies behind the depth of each pair and block.
    """
    given = Arguments(function, PACK_ARGUMENTS)
    builder, lanes, v = given.builder, host.lanes, Vectors(given.builder, host)
    blocks, units, depth = given["blocks"], given["units"], given["depth"]
    size, step = row_size_of(v, depth, parts), 2 * lanes if parts else lanes
    packed = packed_rows(v, size, parts)
    vectors = ceiling(builder, units, lanes)
    first, stop = given.share(ceiling(builder, vectors, 2))
    with loop(builder, first, stop) as pair:
        unit = builder.mul(pair, integer(2 * lanes))
        left = builder.sub(builder.mul(vectors, integer(lanes)), unit)
        width = least(builder, left, integer(2 * lanes))
        before = builder.mul(builder.mul(unit, blocks), packed)
        with loop(builder, 0, blocks) as block:
            skipped = builder.mul(builder.mul(block, packed), width)
            target = given.at("target", builder.add(before, skipped))
            scales = offset(builder, target, builder.mul(size, width))
            if parts == HALVES:
                with loop(builder, 0, width, lanes) as u:
                    own = builder.add(unit, u)
                    row = builder.mul(builder.add(builder.mul(block, units), own), depth)
                    count = builder.sub(units, own)
                    undoing = _undoing_of_rows(v, given.at("source", row), depth, count)
                    v.store(undoing, offset(builder, scales, u))
            with loop(builder, 0, depth, CHUNK) as start, loop(builder, 0, width, lanes) as u:
                first_row = builder.add(builder.mul(block, units), builder.add(unit, u))
                count = builder.sub(units, builder.add(unit, u))  # of real ones from here on
                stop = least(builder, builder.add(start, integer(CHUNK)), depth)
                with loop(builder, start, stop, step) as d:
                    source = given.at("source", builder.add(builder.mul(first_row, depth), d))
                    place = builder.mul(builder.sdiv(d, integer(step)), integer(lanes))
                    place = builder.mul(builder.mul(place, integer(max(1, parts))), width)
                    to = offset(builder, target, builder.add(place, u))
                    block_of = source, depth, to, width, offset(builder, scales, u)
                    is_whole = builder.and_(
                        builder.icmp_signed(">=", count, integer(lanes)),
                        builder.icmp_signed(">=", builder.sub(depth, d), integer(step)),
                    )
                    with builder.if_else(is_whole) as (whole, partly):
                        with whole:
                            _turn(v, *block_of, parts)
                        with partly:
                            left = builder.sub(depth, d)
                            _turn(v, *block_of, parts, rows=count, columns=left)
    builder.ret_void()


def _turn(
    v: Vectors,
    source: ir.Value,
    row: ir.Value,
    target: ir.Value,
    column: ir.Value,
    scales: ir.Value,
    parts: int,
    *,
    rows: ir.Value | None = None,
    columns: ir.Value | None = None,
) -> None:
    """As many rows as a vector has lanes, `row` apart, to columns, `column` apart.

    Of numbers, a square block; of couples, twice as wide, one such block for each part. Of the
    block only so many `rows` and `columns` may be there: what is missing of a column is zero, a
    missing column of numbers is not written. What undoes the rows' scales lies at `scales`.
    """
    builder = v.builder

    def load(i: int, first: int) -> ir.Value:
        mask = None if columns is None else v.mask_below(builder.sub(columns, integer(first)))
        start = offset(builder, source, integer(first))
        return row_of_block(v, start, row, integer(i), rows=rows, mask=mask)

    if not parts:
        for i, vector in enumerate(v.transposed([load(i, 0) for i in range(v.lanes)])):
            to = offset(builder, target, builder.mul(column, integer(i)))
            if columns is None:
                v.store(vector, to)
                continue
            with builder.if_then(builder.icmp_signed("<", integer(i), columns)):
                v.store(vector, to)
        return
    halves = (v.transposed([load(i, first) for i in range(v.lanes)]) for first in (0, v.lanes))
    numbers = [vector for half in halves for vector in half]
    if parts == HALVES:
        scale = scale_from(v, v.load(scales))
        numbers = [v.mul(vector, scale) for vector in numbers]
    for i, pair in enumerate(zip(numbers[::2], numbers[1::2], strict=True)):
        for part, couples in enumerate(v.couples(*pair, parts=parts)):
            place = builder.mul(column, integer(part * v.lanes + i))
            v.store(couples, offset(builder, target, place))


def _undoing_of_rows(v: Vectors, source: ir.Value, depth: ir.Value, count: ir.Value) -> ir.Value:
    """What undoes the scales of as many rows as a vector has lanes, `depth` long and apart.

    Only so many of them are there.
    """
    builder, magnitudes = v.builder, [new_magnitude(v) for _ in range(v.lanes)]

    def visit(j: ir.Value, mask: ir.Value | None) -> None:
        start = offset(builder, source, j)
        for i, magnitude in enumerate(magnitudes):
            numbers = row_of_block(v, start, depth, integer(i), rows=count, mask=mask)
            enlarge(v, magnitude, numbers)

    each_vector(v, depth, visit)
    rows = [builder.bitcast(builder.load(m, typ=v.int_type), v.type) for m in magnitudes]
    return undoing_of(v, reduce(partial(larger, v), v.transposed(rows), v.whole(0)))


def pack_turned(function: ir.Function, host: Host, *, parts: int) -> None:
    """(depth, units), one block, to [pair][depth][unit], or to couples in the depth's place."""
    given = Arguments(function, PACK_ARGUMENTS)
    builder, lanes = given.builder, host.lanes
    units, depth = given["units"], given["depth"]
    v = Vectors(builder, host)
    size, step = row_size_of(v, depth, parts), 2 if parts else 1
    packed = packed_rows(v, size, parts)
    every = builder.mul(row_size_of(v, depth, 1), integer(2)) if parts else depth
    vectors = ceiling(builder, units, lanes)
    first, stop = given.share(ceiling(builder, vectors, 2))
    if parts == HALVES:
        _scale_columns(given, v, (first, stop), size)
    # some rows at a time, whose pages the processor remembers until the next pair
    with loop(builder, 0, every, CHUNK) as start, loop(builder, first, stop) as pair:
        end = least(builder, builder.add(start, integer(CHUNK)), every)
        unit = builder.mul(pair, integer(2 * lanes))
        left = builder.sub(builder.mul(vectors, integer(lanes)), unit)
        width = least(builder, left, integer(2 * lanes))
        with loop(builder, 0, width, lanes) as j:
            own = builder.add(unit, j)
            mask = v.mask_below(builder.sub(units, own))
            source = given.at("source", own)
            target = given.at("target", builder.add(builder.mul(unit, packed), j))
            scale = None
            if parts == HALVES:
                scale = scale_from(v, v.load(offset(builder, target, builder.mul(size, width))))
            with loop(builder, start, end, step) as d:
                values = []
                for i in range(step):
                    row = builder.add(d, integer(i))
                    later = builder.add(builder.mul(row, units), integer(4 * lanes))
                    v.prefetch(offset(builder, source, later), nearness=3)  # two pairs from here
                    values.append(
                        row_of_block(
                            v, source, units, row, rows=depth if parts else None, mask=mask
                        )
                    )
                row = d
                if scale is not None:
                    values = [v.mul(value, scale) for value in values]
                if parts:
                    values = v.couples(*values, parts=parts)
                    couple = builder.sdiv(d, integer(2))
                    before = builder.sdiv(couple, integer(lanes))
                    row = builder.mul(before, integer(lanes * parts))
                    row = builder.add(row, builder.srem(couple, integer(lanes)))
                for part, value in enumerate(values):
                    place = builder.mul(builder.add(row, integer(part * lanes)), width)
                    v.store(value, offset(builder, target, place))
    builder.ret_void()


def _scale_columns(
    given: Arguments, v: Vectors, pairs: tuple[ir.Value, ir.Value], size: ir.Value
) -> None:
    """What undoes the scales of these pairs' columns, behind their couples, `size` rows of them."""
    builder, lanes, units, depth = v.builder, v.lanes, given["units"], given["depth"]
    padded = builder.mul(ceiling(builder, units, lanes), integer(lanes))
    packed, largest = packed_rows(v, size, HALVES), new_magnitude(v)

    def each_place(work: Callable[[ir.Value, ir.Value, ir.Value], None]) -> None:
        """`work(column, mask, place)` for each vector of columns."""
        with loop(builder, *pairs) as pair:
            unit = builder.mul(pair, integer(2 * lanes))
            width = least(builder, builder.sub(padded, unit), integer(2 * lanes))
            with loop(builder, 0, width, lanes) as j:
                own = builder.add(unit, j)
                place = builder.add(builder.mul(unit, packed), builder.mul(size, width))
                mask = v.mask_below(builder.sub(units, own))
                work(own, mask, given.at("target", builder.add(place, j)))

    def enlarge_by(start: ir.Value, own: ir.Value, mask: ir.Value, place: ir.Value) -> None:
        is_first = builder.icmp_signed("==", start, integer(0))
        so_far = builder.bitcast(v.load(place), v.int_type)
        builder.store(builder.select(is_first, v.whole(0), so_far), largest)
        end = least(builder, builder.add(start, integer(CHUNK)), depth)
        with loop(builder, start, end) as d:
            row = builder.add(builder.mul(d, units), own)
            enlarge(v, largest, v.load(given.at("source", row), mask))
        v.store(builder.bitcast(builder.load(largest, typ=v.int_type), v.type), place)

    def settle(own: ir.Value, mask: ir.Value, place: ir.Value) -> None:
        v.store(undoing_of(v, builder.bitcast(v.load(place), v.int_type)), place)

    with loop(builder, 0, depth, CHUNK) as start:
        each_place(partial(enlarge_by, start))
    each_place(settle)


def couple_rows(function: ir.Function, host: Host) -> None:
    """(depth, units), one block, to (⌈depth/2⌉, units) couples of neighbouring rows."""
    given = Arguments(function, PACK_ARGUMENTS)
    builder, lanes, units, depth = given.builder, host.lanes, given["units"], given["depth"]
    v = Vectors(builder, host)
    first, stop = given.share(ceiling(builder, depth, 2))
    with loop(builder, first, stop) as couple:
        row = builder.mul(couple, integer(2))
        has_second = builder.icmp_signed("<", builder.add(row, integer(1)), depth)
        source = given.at("source", builder.mul(row, units))
        second = offset(builder, source, builder.select(has_second, units, integer(0)))
        target = given.at("target", builder.mul(couple, units))
        with loop(builder, 0, units, lanes) as u:
            mask = v.mask_below(builder.sub(units, u))
            low, high = (v.load(offset(builder, at, u), mask) for at in (source, second))
            high = builder.select(has_second, high, v.constant(0.0))
            (couples,) = v.couples(low, high, parts=BFLOAT16)
            v.store(couples, offset(builder, target, u), mask)
    builder.ret_void()
