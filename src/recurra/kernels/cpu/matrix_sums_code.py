"""LLVM code for sums over rows of products by matrix units; see `sums_code` for what they are.

Some rows at a time (`block_depth` couples), B's columns are copied into panels, and A's turned into
rows of couples, a strip of TILE columns after the other, each of which meets all panels before the
next.
With HALVES, each block of rows has scales of its own, behind each panel and each row of a strip.
"""

from functools import cache, partial, reduce

from llvmlite import ir

from recurra.kernels.cpu.couples import enlarge, new_magnitude, scale_from, undoing_of
from recurra.kernels.cpu.flow import Arguments, ceiling, each_vector, least, loop, row_of_block
from recurra.kernels.cpu.host import HALVES, Host
from recurra.kernels.cpu.matrix import (
    TILE,
    Matrices,
    call_products,
    new_configuration,
    release,
)
from recurra.kernels.cpu.sums_code import (
    SUM_ARGUMENTS,
    Operand,
    add_sums,
    find_operands,
    place_in_panels,
)
from recurra.kernels.cpu.tiles import LINE
from recurra.kernels.cpu.vector import I32, I64, POINTER, Vectors, integer, offset

PANEL = 2 * TILE
LEAST_DEPTH = 64  # couples of rows whose strip stays in the nearest cache while it is written
# Each block of rows is one more pass over C. One of more numbers than this does not stay in the
# cores' own caches: then blocks are as deep as leave their panels there, a strip in the nearest.
NEAR_SUMS, PANELS_NUMBERS, STRIP_NUMBERS = 600_000, 200_000, 8192


@cache
def block_depth(rows: int, m: int, sizes: tuple[int, ...], parts: int) -> int:
    """Couples of rows at a time, for m columns and operands with so many: whole tiles of them."""
    panels, most = sum(-(-n // PANEL) for n in sizes), LEAST_DEPTH
    if m * sum(sizes) > NEAR_SUMS:
        deepest = min(PANELS_NUMBERS // (panels * PANEL * parts), STRIP_NUMBERS // (TILE * parts))
        most = max(deepest, LEAST_DEPTH)
    blocks = -(-rows // (2 * most))
    return -(-rows // (2 * TILE * blocks)) * TILE


@cache
def scratch_size(depth: int, sizes: tuple[int, ...], parts: int) -> int:
    """Numbers of scratch for a thread: all panels of operands with so many columns, strips of A."""
    panels = sum(-(-n // PANEL) for n in sizes)
    return panels * (parts * depth + 1) * PANEL + TILE * (parts * depth + LINE)


def sums_of_parts(function: ir.Function, host: Host, *, parts: int) -> None:
    given = Arguments(function, SUM_ARGUMENTS)
    builder, v = given.builder, Vectors(given.builder, host)
    to = given.at("scratch", builder.mul(given.thread, given["scratch_thread"]))
    most = builder.mul(given["depth"], integer(parts))
    panel_size = builder.mul(builder.add(most, integer(1)), integer(PANEL))
    strip_row = builder.add(most, integer(LINE))
    operands, to = find_operands(given, to, PANEL, panel_size)
    configuration, table = new_configuration(builder), builder.inttoptr(given["tiles"], POINTER)
    with builder.goto_entry_block():
        total = builder.alloca(v.type)
    first, stop = given.share(ceiling(builder, given["m"], TILE))
    block = builder.mul(given["depth"], integer(2))
    with loop(builder, 0, given["rows"], block) as start:
        count = least(builder, block, builder.sub(given["rows"], start))
        depth = builder.mul(ceiling(builder, count, 2 * TILE), integer(TILE))
        adds = builder.zext(builder.icmp_signed(">", start, integer(0)), I64)
        rows = builder.mul(depth, integer(parts))
        for operand in operands:
            if parts == HALVES:
                _scale_panels(v, operand, start, count, rows, panel_size)
            _copy_panels(v, operand, start, count, depth, panel_size, parts)
        with loop(builder, first, stop) as strip:
            low = builder.mul(strip, integer(TILE))
            columns = least(builder, integer(TILE), builder.sub(given["m"], low))
            _copy_strip(given, v, start, count, low, (to, strip_row, rows), parts, total)
            for operand in operands:
                with loop(builder, 0, operand.n, PANEL) as column:
                    place = place_in_panels(builder, column, PANEL, panel_size)
                    c = builder.add(builder.mul(low, operand.c_row), column)
                    panel = offset(builder, operand.at, place)
                    matrices = Matrices(
                        *(to, strip_row),
                        *(panel, integer(PANEL), _scales(builder, panel, rows), rows),
                        *(offset(builder, operand.c, c), operand.c_row),
                    )
                    left = least(builder, builder.sub(operand.n, column), integer(PANEL))
                    call_products(
                        *(builder, table, configuration, columns, matrices, left), adds=adds
                    )
    release(builder)
    builder.ret_void()


def _scales(builder: ir.IRBuilder, panel: ir.Value, rows: ir.Value) -> ir.Value:
    """What undoes the scales of a panel's columns lies behind its rows of couples."""
    return offset(builder, panel, builder.mul(rows, integer(PANEL)))


def _scale_panels(
    v: Vectors,
    operand: Operand,
    start: ir.Value,
    count: ir.Value,
    rows: ir.Value,
    panel_size: ir.Value,
) -> None:
    """What undoes the scales of an operand's columns, into all panels."""
    builder = v.builder

    def settle(column: ir.Value, mask: ir.Value | None) -> None:
        largest = new_magnitude(v)
        with loop(builder, 0, count) as r:
            (source,) = operand.rows(builder, builder.add(start, r), 1)
            enlarge(v, largest, v.load(offset(builder, source, column), mask))
        place = place_in_panels(builder, column, PANEL, panel_size)
        scales = _scales(builder, offset(builder, operand.at, place), rows)
        v.store(undoing_of(v, builder.load(largest, typ=v.int_type)), scales)

    each_vector(v, operand.n, settle)


def _copy_panels(
    v: Vectors,
    operand: Operand,
    start: ir.Value,
    count: ir.Value,
    depth: ir.Value,
    panel_size: ir.Value,
    parts: int,
) -> None:
    """An operand's rows, two after two, into all panels; missing rows and columns are zero."""
    builder = v.builder
    whole, some = builder.sdiv(count, integer(2)), ceiling(builder, count, 2)
    scales = _scales(builder, operand.at, builder.mul(depth, integer(parts)))
    for there, low, high in ((2, integer(0), whole), (1, whole, some), (0, some, depth)):
        with loop(builder, low, high) as couple:
            row = builder.add(start, builder.mul(couple, integer(2)))
            sources = operand.rows(builder, row, there)
            before = builder.mul(builder.sdiv(couple, integer(TILE)), integer(TILE * parts))
            line = builder.add(before, builder.srem(couple, integer(TILE)))
            line = offset(builder, operand.at, builder.mul(line, integer(PANEL)))
            copy = partial(_copy_to_panel, v, sources, line, scales, panel_size, parts)
            each_vector(v, operand.n, copy)


def _copy_to_panel(
    v: Vectors,
    sources: list[ir.Value],
    to: ir.Value,
    scales: ir.Value,
    panel_size: ir.Value,
    parts: int,
    column: ir.Value,
    mask: ir.Value | None,
) -> None:
    """One vector of two rows, fewer if some are missing.

    `to` is their line in the first panel, `scales` where what undoes its columns' scales lies.
    """
    builder = v.builder
    values = [v.load(offset(builder, source, column), mask) for source in sources]
    values += [v.constant(0.0)] * (2 - len(values))
    place = place_in_panels(builder, column, PANEL, panel_size)
    if parts == HALVES:
        scale = scale_from(v, v.load(offset(builder, scales, place)))
        values = [v.mul(value, scale) for value in values]
    for part, couples in enumerate(v.couples(*values, parts=parts)):
        v.store(couples, offset(builder, to, builder.add(place, integer(part * TILE * PANEL))))


def _copy_strip(
    given: Arguments,
    v: Vectors,
    start: ir.Value,
    count: ir.Value,
    column: ir.Value,
    strip: tuple[ir.Value, ir.Value, ir.Value],
    parts: int,
    total: ir.Value,
) -> None:
    """A's columns from one on as rows of couples, and their sum, in the variable `total`.

    `strip` is where they go, how far apart rows are, and how many couples a row has.
    """
    builder, (to, distance, size) = v.builder, strip
    builder.store(v.constant(0.0), total)
    left = builder.sub(given["m"], column)
    scale = None
    if parts == HALVES:
        source = given.at("a", builder.add(builder.mul(start, given["a_row"]), column))
        undoing = _undoing_of_columns(v, source, given["a_row"], count, left)
        scale = scale_from(v, undoing)
        for i in range(TILE):
            own = builder.extract_element(undoing, ir.Constant(I32, i))
            place = builder.add(size, builder.mul(distance, integer(i)))
            builder.store(own, offset(builder, to, place), align=4)
    with loop(builder, 0, count, 2 * TILE) as r:
        source = builder.add(builder.mul(builder.add(start, r), given["a_row"]), column)
        block = given.at("a", source), given["a_row"], builder.sub(count, r), left
        target = offset(builder, to, builder.mul(builder.sdiv(r, integer(2)), integer(parts)))
        is_whole = builder.and_(
            builder.icmp_signed(">=", block[2], integer(2 * TILE)),
            builder.icmp_signed(">=", left, integer(TILE)),
        )
        with builder.if_else(is_whole) as branches:
            for branch, is_masked in zip(branches, (False, True), strict=True):
                with branch:
                    _turn(v, block, (target, distance), scale, parts, total, is_masked)
    add_sums(given, v, start, column, 0, TILE, builder.load(total, typ=v.type))


def _undoing_of_columns(
    v: Vectors, source: ir.Value, distance: ir.Value, count: ir.Value, columns: ir.Value
) -> ir.Value:
    """What undoes the scales of a vector's columns in `count` rows; so many columns are there."""
    builder, largest, mask = v.builder, new_magnitude(v), v.mask_below(columns)
    with loop(builder, 0, count) as r:
        row = offset(builder, source, builder.mul(r, distance))
        enlarge(v, largest, v.load(row, mask))
    return undoing_of(v, builder.load(largest, typ=v.int_type))


def _turn(
    v: Vectors,
    block: tuple[ir.Value, ir.Value, ir.Value, ir.Value],
    target: tuple[ir.Value, ir.Value],
    scale: ir.Value | None,
    parts: int,
    total: ir.Value,
    is_masked: bool,
) -> None:
    """Two times TILE rows of TILE columns as rows of couples; adds their sum to that in `total`.

    `block` is the first row, the distance of rows, and how many rows and columns are there, which
    counts only if `is_masked`; what is missing is zero. `target`: the first row of couples, and how
    far apart they are.
    """
    builder, (source, distance, rows, columns), (to, to_row) = v.builder, block, target
    mask = v.mask_below(columns) if is_masked else None
    halves = []
    for half in range(2):
        vectors = []
        for i in range(TILE):
            number = integer(half * TILE + i)
            there = rows if is_masked else None
            vectors.append(row_of_block(v, source, distance, number, rows=there, mask=mask))
        sums = reduce(v.add, vectors, builder.load(total, typ=v.type))
        builder.store(sums, total)
        if scale is not None:
            vectors = [v.mul(vector, scale) for vector in vectors]
        halves.append(v.transposed(vectors))
    for i, pair in enumerate(zip(*halves, strict=True)):
        row = offset(builder, to, builder.mul(to_row, integer(i)))
        for part, couples in enumerate(v.neighbours(*pair, parts=parts)):
            v.store(couples, offset(builder, row, integer(part * TILE)))
