"""LLVM code for sums over rows of products: weight gradients.

C[m, n] = Σ_r A[r, m] B[r, n] for one B or two, whose operands lie row after row as the loops left
them, B's also where a table says; a library's product would want them turned first. Some rows at a
time (`panel_depth`), B's columns are copied into panels of two vectors, and A's into strips of a
few columns, of which some (STRIPS_AT_ONCE) meet each panel before the next; a tile × panel product
keeps its sums in registers. Threads share A's columns, each with panels of its own. Σ_r A[r, m]
comes with it.

In bfloat16 there are couples of neighbouring r, rounded as they are copied.
"""

from dataclasses import dataclass
from functools import cache, partial, reduce

from llvmlite import ir

from recurra.kernels.cpu.flow import Arguments, ceiling, each_vector, least, loop, place_of
from recurra.kernels.cpu.host import BFLOAT16, Host
from recurra.kernels.cpu.tiles import LINE, STEPS_PER_LINE
from recurra.kernels.cpu.vector import F32, I64, POINTER, Vectors, integer, offset

STRIPS_AT_ONCE = 16  # whose columns of A stay in a core's own cache while a panel passes by
OPERANDS = 2  # that may share A
PANEL_VECTORS = 2
UNROLL = 4
SUM_ARGUMENTS = (
    "rows", "m", "a", "a_row", "scratch", "scratch_thread", "tiles", "depth",
    *(f"{name}{k}" for k in range(OPERANDS)
      for name in ("n", "b", "b_row", "places", "c", "c_row", "sums")),
    "thread_number", "thread_count",
)  # fmt: skip


def tile_columns(host: Host) -> int:
    """Columns of A in a tile: sums, the panel's vectors and one spread number fit in registers."""
    if host.lanes == LINE:
        return 8
    return 12 if host.registers >= 32 else 6


def strip_columns(host: Host) -> int:
    """Columns of A that are copied together.

    Where a vector is a line of the cache, two tiles make one, so that no load or store crosses
    lines: 3 to 12 % faster than twelve columns for each tile (Granite Rapids).
    """
    return LINE if host.lanes == LINE else tile_columns(host)


def panel_depth(host: Host) -> int:
    """Rows of a panel: so many that it stays in a core's nearest cache.

    Measured: 3 to 8 % faster with 384 than with 256 for 8 lanes (Zen 3).
    """
    return 384 if host.lanes == 8 else 256


def _strip_size(host: Host) -> int:
    """Numbers of a strip, and a line more.

    Else the same row of all strips, which are written together, would want one place in the cache.
    """
    return panel_depth(host) * strip_columns(host) + LINE


def _panel_size(host: Host) -> int:
    return panel_depth(host) * panel_columns(host) + LINE


def panel_columns(host: Host) -> int:
    return PANEL_VECTORS * host.lanes


@cache
def scratch_size(host: Host, sizes: tuple[int, ...]) -> int:
    """Numbers of scratch for a thread: all panels of operands with so many columns, strips of A."""
    width = panel_columns(host)
    panels = sum(-(-n // width) for n in sizes)
    return panels * _panel_size(host) + STRIPS_AT_ONCE * _strip_size(host) + 2 * width


@dataclass(frozen=True)
class Operand:
    """One of the operands that share A: its panels in this thread's scratch, and its result."""

    n: ir.Value
    panels: ir.Value
    at: ir.Value  # its first panel
    b: ir.Value
    b_row: ir.Value
    c: ir.Value
    c_row: ir.Value
    places: ir.Value  # of B's rows; see `place_of`

    def rows(self, builder: ir.IRBuilder, start: ir.Value, count: int) -> list[ir.Value]:
        """The addresses of so many of B's rows, one after the other."""
        found = []
        for i in range(count):
            row = builder.add(start, integer(i))
            row = place_of(builder, self.places, row, builder.function.args[0])
            found.append(offset(builder, self.b, builder.mul(row, self.b_row)))
        return found


def find_operands(
    given: Arguments, to: ir.Value, width: int, panel_size: ir.Value
) -> tuple[list[Operand], ir.Value]:
    """The operands, with panels of so many columns from `to` on, and where these end."""
    builder, found = given.builder, []
    for k in range(OPERANDS):
        panels = ceiling(builder, given[f"n{k}"], width)
        pointers = [builder.inttoptr(given[f"{name}{k}"], POINTER) for name in "bc"]
        strides = [given[f"{name}_row{k}"] for name in "bc"]
        b, c = zip(pointers, strides, strict=True)
        found.append(Operand(given[f"n{k}"], panels, to, *b, *c, given[f"places{k}"]))
        to = offset(builder, to, builder.mul(panels, panel_size))
    return found, to


def place_in_panels(
    builder: ir.IRBuilder, column: ir.Value, width: int, panel_size: ir.Value
) -> ir.Value:
    """Where a column of the first row lies, from the first panel on."""
    panel = builder.mul(builder.sdiv(column, integer(width)), panel_size)
    return builder.add(panel, builder.and_(column, integer(width - 1)))


def sums_of_products(function: ir.Function, host: Host, *, parts: int) -> None:
    in_bfloat16 = parts > 0
    tiles = [_tile(function.module, host, v, in_bfloat16) for v in range(1, PANEL_VECTORS + 1)]
    given = Arguments(function, SUM_ARGUMENTS)
    builder, columns, width = given.builder, strip_columns(host), panel_columns(host)
    most, panel_size = panel_depth(host), integer(_panel_size(host))
    to = given.at("scratch", builder.mul(given.thread, given["scratch_thread"]))
    operands, to = find_operands(given, to, width, panel_size)
    column = None if in_bfloat16 else _column(function.module, host)
    before = [integer(0), operands[0].panels]  # panels of the operands before each
    first, stop = given.share(ceiling(builder, given["m"], columns))
    is_all = builder.icmp_signed("<=", builder.sub(stop, first), integer(STRIPS_AT_ONCE))
    with loop(builder, 0, given["rows"], most) as start:
        count = least(builder, integer(most), builder.sub(given["rows"], start))
        depth = ceiling(builder, count, 2) if in_bfloat16 else count
        after = builder.add(start, integer(most))
        asks = builder.and_(is_all, builder.icmp_signed("<", after, given["rows"]))
        for operand in operands:
            _copy_panels(given, host, operand, start, count, in_bfloat16)
        with loop(builder, first, stop, STRIPS_AT_ONCE) as t:
            end = least(builder, builder.add(t, integer(STRIPS_AT_ONCE)), stop)
            _copy_strips(given, host, start, count, (t, end), to, in_bfloat16)
            block = _Block(start, depth, t, end, to, after, asks)
            for operand, panels in zip(operands, before, strict=True):
                if column is None:
                    _meet_panels(given, host, tiles, operand, panels, block)
                    continue
                is_one = builder.icmp_signed("==", operand.n, integer(1))
                with builder.if_else(is_one) as (then, otherwise):
                    with then:
                        _meet_column(given, host, column, operand, block)
                    with otherwise:
                        _meet_panels(given, host, tiles, operand, panels, block)
    builder.ret_void()


@dataclass(frozen=True)
class _Block:
    """Some of A's rows, in strips t … end."""

    start: ir.Value  # the first row
    depth: ir.Value
    t: ir.Value
    end: ir.Value
    strips: ir.Value  # where the first one lies
    after: ir.Value  # the first row behind
    asks: ir.Value  # whether to ask the memory for the rows behind; see `_later`

    def strip(self, builder: ir.IRBuilder, host: Host, own: ir.Value) -> ir.Value:
        shift = builder.mul(builder.sub(own, self.t), integer(_strip_size(host)))
        return offset(builder, self.strips, shift)


def _meet_panels(
    given: Arguments,
    host: Host,
    tiles: list[ir.Function],
    operand: Operand,
    panels: ir.Value,
    block: _Block,
) -> None:
    """All of a block's strips against an operand's panels, before which so many were met."""
    builder, columns, width = given.builder, strip_columns(host), panel_columns(host)
    with loop(builder, 0, operand.panels) as p, loop(builder, block.t, block.end) as own:
        b = offset(builder, operand.at, builder.mul(p, integer(_panel_size(host))))
        for part in range(0, columns, tile_columns(host)):
            a = offset(builder, block.strip(builder, host, own), integer(part))
            row = builder.add(builder.mul(own, integer(columns)), integer(part))
            column = builder.mul(p, integer(width))
            place = builder.add(builder.mul(row, operand.c_row), column)
            c = offset(builder, operand.c, place)
            left = builder.sub(operand.n, column)
            rows_left = builder.sub(given["m"], row)
            if part:
                piece = builder.mul(builder.sub(own, block.t), operand.panels)
                piece = builder.add(piece, p)
                line = builder.sdiv(piece, integer(STEPS_PER_LINE))
                rows = operand.b, operand.b_row
            else:
                piece, line = builder.add(panels, p), own
                rows = given.at("a", integer(0)), given["a_row"]
            later = _later(builder, host, rows, block.after, piece, line)
            numbers = [a, b, block.depth, c, operand.c_row, block.start, rows_left, left]
            for value, none in zip(later, (b, integer(0)), strict=True):
                numbers.append(builder.select(block.asks, value, none))
            is_narrow = builder.icmp_signed("<=", left, integer(host.lanes))
            has_rows = builder.icmp_signed(">", rows_left, integer(0))
            with builder.if_then(has_rows), builder.if_else(is_narrow) as branches:
                for branch, tile in zip(branches, tiles, strict=True):
                    with branch:
                        builder.call(tile, numbers)


def _meet_column(
    given: Arguments, host: Host, column: ir.Function, operand: Operand, block: _Block
) -> None:
    """All of a block's strips against an operand of one column, whose result lies in one piece."""
    builder = given.builder
    with loop(builder, block.t, block.end) as own:
        row = builder.mul(own, integer(strip_columns(host)))
        c, rows_left = offset(builder, operand.c, row), builder.sub(given["m"], row)
        strip = block.strip(builder, host, own)
        builder.call(column, [strip, operand.at, block.depth, c, block.start, rows_left])


def _later(
    builder: ir.IRBuilder,
    host: Host,
    rows: tuple[ir.Value, ir.Value],
    after: ir.Value,
    piece: ir.Value,
    line: ir.Value,
) -> tuple[ir.Value, ir.Value]:
    """What a tile asks the memory for: the first line, and how far apart the lines of its rows are.

    Copying waits for the memory, and products leave it idle: so the next rows, from `after` on, are
    asked for in time (2 to 6 % where they are many: Granite Rapids). STEPS_PER_LINE tiles ask for a
    column of lines, each for another piece.
    """
    start, row = rows
    place = builder.and_(piece, integer(STEPS_PER_LINE - 1))
    place = builder.mul(place, integer(panel_depth(host) // STEPS_PER_LINE))
    place = builder.mul(builder.add(after, place), row)
    place = builder.add(place, builder.mul(line, integer(LINE)))
    return offset(builder, start, place), row


def _copy_panels(
    given: Arguments,
    host: Host,
    operand: Operand,
    start: ir.Value,
    count: ir.Value,
    in_bfloat16: bool,
) -> None:
    """An operand's rows, one after the other, into all panels; missing columns are zero."""
    builder, v = given.builder, Vectors(given.builder, host)
    for rows, first, stop in _turns(builder, count, in_bfloat16):
        with loop(builder, first, stop, 2 if in_bfloat16 else 1) as r:
            sources = operand.rows(builder, builder.add(start, r), rows)
            line = builder.mul(_place(builder, r, in_bfloat16), integer(panel_columns(host)))
            to = offset(builder, operand.at, line)
            each_vector(v, operand.n, partial(_copy_to_panel, v, host, sources, to, in_bfloat16))


def _copy_to_panel(
    v: Vectors,
    host: Host,
    sources: list[ir.Value],
    to: ir.Value,
    in_bfloat16: bool,
    column: ir.Value,
    mask: ir.Value | None,
) -> None:
    """One vector of a row, or of two as couples; `to` is the row's place in the first panel."""
    builder = v.builder
    values = [v.load(offset(builder, source, column), mask) for source in sources]
    place = place_in_panels(builder, column, panel_columns(host), integer(_panel_size(host)))
    v.store(_merged(v, values, in_bfloat16), offset(builder, to, place))


def _copy_strips(
    given: Arguments,
    host: Host,
    start: ir.Value,
    count: ir.Value,
    bounds: tuple[ir.Value, ir.Value],
    to: ir.Value,
    in_bfloat16: bool,
) -> None:
    """A's columns of some strips, row after row, and their sums.

    In a strip each row's end, where it is no whole vector, is overwritten by the next row.
    """
    builder, lanes, columns = given.builder, host.lanes, strip_columns(host)
    v, shifts, (t, end) = Vectors(builder, host), range(0, columns, lanes), bounds
    with builder.goto_entry_block():
        slots = [builder.alloca(v.type, integer(STRIPS_AT_ONCE)) for _ in shifts]
    strips, low = builder.sub(end, t), builder.mul(t, integer(columns))
    left = builder.sub(given["m"], low)
    with loop(builder, 0, strips) as own:
        for slot in slots:
            builder.store(v.constant(0.0), builder.gep(slot, [own], source_etype=v.type))
    inside = builder.sub(left, integer(shifts[-1] + lanes - columns))
    inside = builder.sdiv(inside, integer(columns))  # strips whose vectors lie inside the row
    inside = least(builder, strips, inside)
    for rows, first, stop in _turns(builder, count, in_bfloat16):
        with loop(builder, first, stop, 2 if in_bfloat16 else 1) as r:
            line = builder.mul(_place(builder, r, in_bfloat16), integer(columns))
            source = builder.add(builder.mul(builder.add(start, r), given["a_row"]), low)
            for bound, is_inside in (((integer(0), inside), True), ((inside, strips), False)):
                with loop(builder, *bound) as own:
                    column = builder.mul(own, integer(columns))
                    strip = builder.add(line, builder.mul(own, integer(_strip_size(host))))
                    for j, slot in zip(shifts, slots, strict=True):
                        beyond = builder.sub(builder.sub(left, column), integer(j))
                        mask = None if is_inside else v.mask_below(beyond)
                        at = builder.add(builder.add(source, column), integer(j))
                        values = []
                        for i in range(rows):
                            shift = builder.mul(given["a_row"], integer(i))
                            values.append(v.load(given.at("a", builder.add(at, shift)), mask))
                        total = builder.gep(slot, [own], source_etype=v.type)
                        builder.store(reduce(v.add, values, builder.load(total, typ=v.type)), total)
                        target = offset(builder, to, builder.add(strip, integer(j)))
                        v.store(_merged(v, values, in_bfloat16), target)
    with loop(builder, 0, strips) as own:
        column = builder.add(low, builder.mul(own, integer(columns)))
        for j, slot in zip(shifts, slots, strict=True):
            total = builder.load(builder.gep(slot, [own], source_etype=v.type), typ=v.type)
            add_sums(given, v, start, column, j, min(columns - j, lanes), total)


def add_sums(
    given: Arguments,
    v: Vectors,
    start: ir.Value,
    column: ir.Value,
    j: int,
    most: int,
    total: ir.Value,
) -> None:
    """Sums of the columns from column + j on, at most so many, to those of the rows before."""
    builder, at = v.builder, v.builder.add(column, integer(j))
    mask = v.mask_below(least(builder, builder.sub(given["m"], at), integer(most)))
    places = [given.at(f"sums{k}", at) for k in range(OPERANDS)]
    is_first = builder.icmp_signed("==", start, integer(0))
    so_far = builder.select(is_first, v.constant(0.0), v.load(places[0], mask))
    for place in places:  # of an operand that is missing, it is the other's
        v.store(v.add(total, so_far), place, mask)


def _turns(
    builder: ir.IRBuilder, count: ir.Value, in_bfloat16: bool
) -> list[tuple[int, int | ir.Value, ir.Value]]:
    """How many rows to read at once, from which to which: two for a couple, and what is left."""
    if not in_bfloat16:
        return [(1, 0, count)]
    whole = builder.and_(count, integer(-2))
    return [(2, 0, whole), (1, whole, count)]


def _place(builder: ir.IRBuilder, r: ir.Value, in_bfloat16: bool) -> ir.Value:
    return builder.sdiv(r, integer(2)) if in_bfloat16 else r


def _merged(v: Vectors, values: list[ir.Value], in_bfloat16: bool) -> ir.Value:
    """One row's numbers as they are, or two rows' as couples; a row left alone has zeros beside."""
    if not in_bfloat16:
        return values[0]
    other = values[1] if len(values) == 2 else v.constant(0.0)
    return v.couples(values[0], other, parts=BFLOAT16)[0]


def _tile(module: ir.Module, host: Host, vectors: int, in_bfloat16: bool) -> ir.Function:
    """(a, b, depth, c, c_row, adds, rows, columns, later, later_row): a tile × panel product.

    Added if adds ≠ 0. Of the panel's vectors, only the first ones are used; see also `_later`.
    """
    kinds = [POINTER, POINTER, I64, POINTER, I64, I64, I64, I64, POINTER, I64]
    function = ir.Function(
        module,
        ir.FunctionType(ir.VoidType(), kinds),
        f"{'couples' if in_bfloat16 else 'numbers'}_{vectors}",
    )
    function.linkage = "internal"
    function.attributes.add("noinline")
    a, b, depth, c, c_row, adds, rows_left, columns_left, later, later_row = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    v, rows, lanes = Vectors(builder, host), tile_columns(host), host.lanes
    fused = v.fused_couples if in_bfloat16 else v.fused
    sums = [[builder.alloca(v.type) for _ in range(vectors)] for _ in range(rows)]
    for slot in (slot for row in sums for slot in row):
        builder.store(v.constant(0.0), slot)

    def step(k: ir.Value) -> None:
        at = offset(builder, b, builder.mul(k, integer(panel_columns(host))))
        panel = [v.load(offset(builder, at, integer(j * lanes))) for j in range(vectors)]
        numbers = offset(builder, a, builder.mul(k, integer(strip_columns(host))))
        for i, row in enumerate(sums):
            number = builder.load(offset(builder, numbers, integer(i)), typ=F32, align=4)
            spread = v.spread(number)
            for column, slot in zip(panel, row, strict=True):
                builder.store(fused(spread, column, builder.load(slot, typ=v.type)), slot)

    for i in range(rows):  # by the time that the sums are there
        for j in range(vectors):
            shift = builder.add(builder.mul(c_row, integer(i)), integer(j * lanes))
            v.prefetch(offset(builder, c, shift), nearness=3)
    whole = builder.and_(depth, integer(-UNROLL))
    with loop(builder, 0, whole, UNROLL) as k:
        if host.lanes == LINE:
            line = builder.mul(builder.sdiv(k, integer(STEPS_PER_LINE)), later_row)
            v.prefetch(offset(builder, later, line))
        for u in range(UNROLL):
            step(builder.add(k, integer(u)))
    with loop(builder, whole, depth) as k:
        step(k)
    masks = [v.mask_below(builder.sub(columns_left, integer(j * lanes))) for j in range(vectors)]
    is_adding = builder.icmp_signed("!=", adds, integer(0))
    for i, row in enumerate(sums):
        with builder.if_then(builder.icmp_signed(">", rows_left, integer(i))):
            base = offset(builder, c, builder.mul(c_row, integer(i)))
            for j, (slot, mask) in enumerate(zip(row, masks, strict=True)):
                place, value = (
                    offset(builder, base, integer(j * lanes)),
                    builder.load(slot, typ=v.type),
                )
                _put(v, value, place, mask, is_adding)
    builder.ret_void()
    return function


def _put(v: Vectors, value: ir.Value, place: ir.Value, mask: ir.Value, is_adding: ir.Value) -> None:
    """Store a vector, with what is there added if `is_adding`."""
    old = v.where(is_adding, v.load(place, mask), v.constant(0.0))
    v.store(v.add(value, old), place, mask)


def _column(module: ir.Module, host: Host) -> ir.Function:
    """(a, b, depth, c, adds, rows): a strip × the first column of a panel, added if adds ≠ 0.

    With units in the lanes: a tile would leave all lanes but one empty.
    """
    kinds = [POINTER, POINTER, I64, POINTER, I64, I64]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "column")
    function.linkage = "internal"
    function.attributes.add("noinline")
    a, b, depth, c, adds, rows_left = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    v, columns, lanes = Vectors(builder, host), strip_columns(host), host.lanes
    shifts = range(0, columns, lanes)
    sums = [[builder.alloca(v.type) for _ in shifts] for _ in range(UNROLL)]
    for slot in (slot for row in sums for slot in row):
        builder.store(v.constant(0.0), slot)

    def step(k: ir.Value, row: list[ir.Value]) -> None:
        place = offset(builder, b, builder.mul(k, integer(panel_columns(host))))
        spread = v.spread(builder.load(place, typ=F32, align=4))
        at = offset(builder, a, builder.mul(k, integer(columns)))
        for j, slot in zip(shifts, row, strict=True):
            value = v.load(offset(builder, at, integer(j)))
            builder.store(v.fused(spread, value, builder.load(slot, typ=v.type)), slot)

    whole = builder.and_(depth, integer(-UNROLL))
    with loop(builder, 0, whole, UNROLL) as k:
        for u, row in enumerate(sums):
            step(builder.add(k, integer(u)), row)
    with loop(builder, whole, depth) as k:
        step(k, sums[0])
    is_adding = builder.icmp_signed("!=", adds, integer(0))
    for part, j in enumerate(shifts):
        count = least(builder, rows_left, integer(columns))
        mask = v.mask_below(builder.sub(count, integer(j)))
        place = offset(builder, c, integer(j))
        total = reduce(v.add, [builder.load(row[part], typ=v.type) for row in sums])
        _put(v, total, place, mask, is_adding)
    builder.ret_void()
    return function
