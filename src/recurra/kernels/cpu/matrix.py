"""Products by units for whole matrices (Intel's AMX), which multiply bfloat16 sixteen by sixteen.

Such a unit adds to a tile of C, 16 × 16 float32, the product of a tile of A, 16 rows of 16 couples,
and one of B, 16 couples of 16 columns, at the price of one vector operation per row. It takes 16
times as many bfloat16 as vectors take float32 in the same time; so a float32 product may be made of
several: a number is the sum of three bfloat16, x = x₀ + x₁ + x₂ (see `couples`), and of the nine
products of parts the six with i + j ≤ 2 make up x·y. The others together are below 2⁻²¹·|x·y|, and
2⁻²⁴·|x·y| on average: as much as one rounding of float32. All sums are float32. The unit takes
numbers below 2⁻¹²⁶ for zero: of those below 2⁻¹¹⁰ (10⁻³³) it misses the last parts.

Where the unit multiplies float16, too, two parts are enough, and three products, i + j ≤ 1; what is
left out is as little. Then sums are of scaled numbers: they leave the unit for a room near by, from
which they go to C, with their scales undone, by vectors.

A is as `split_rows` leaves it, B as `products.pack` does, its rows in the order of A's couples.
Here two tiles of A meet two of B at a time: four tiles of sums, and for all that is read, four.

Tiles may have fewer rows and columns; how many is set by `configure`, which takes as long as a
dozen products: so what it was last told is kept in a variable of the caller's.
"""

from dataclasses import dataclass

from llvmlite import ir

from recurra.kernels.cpu.flow import code_in, least, loop
from recurra.kernels.cpu.host import BFLOAT16, HALVES, THIRDS, Host
from recurra.kernels.cpu.tiles import LINE
from recurra.kernels.cpu.vector import (
    F32,
    I8,
    I32,
    I64,
    POINTER,
    Vectors,
    declare,
    integer,
    offset,
    prefetch,
)

TILE = 16  # rows, couples and columns
CONFIGURATION_BYTES = 64
# Pairs of a part of A and one of B, by parts of a number: each differs from the one before on one
# side, whose tiles alone are read.
PAIRS = {
    BFLOAT16: [(0, 0)],
    HALVES: [(0, 1), (0, 0), (1, 0)],
    THIRDS: [(0, 2), (0, 1), (1, 1), (1, 0), (0, 0), (2, 0)],
}
SUMS, OF_A, OF_B = 0, 4, 6  # registers: of sums [2·row + column], of A [row], of B [column]
CONFIGURE = "configure"
NO_ROWS = 0  # what a variable holds before `configure` was called


def tile_names() -> dict[int, str]:
    """Which function is in which place of the table of addresses."""
    return {0: CONFIGURE} | {_place(*kind): _name(*kind) for kind in _KINDS}


# tiles of A, tiles of B, and whether B comes from far
_KINDS = [(r, c, is_far) for r in (1, 2) for c in (1, 2) for is_far in (False, True)]


def _place(rows: int, columns: int, is_far: bool) -> int:
    return 8 * is_far + 2 * rows + columns


def _name(rows: int, columns: int, is_far: bool) -> str:
    return f"product_{rows}_{columns}" + ("_far" if is_far else "")


_CONFIGURE_TYPE = ir.FunctionType(ir.VoidType(), [I64])
# (A, lda, B, ldb, scales, depth, C, ldc, adds, start, count, width): the first as in `Matrices`. If
# adds ≠ 0, sums are added to what C holds; else to the numbers at `start`, the same in every row,
# unless it is null. `count` rows and `width` columns of all tiles, as `configure` was told.
_PRODUCT_TYPE = ir.FunctionType(
    ir.VoidType(),
    [POINTER, I64, POINTER, I64, POINTER, I64, POINTER, I64, I64, POINTER, I64, I64],
)


def build_tiles(host: Host, parts: int) -> ir.Module:
    """A module with `configure` and a product for one or two tiles of A and of B."""
    module = ir.Module("matrix")
    _build_configure(ir.Function(module, _CONFIGURE_TYPE, CONFIGURE))
    for kind in _KINDS:
        _build_product(ir.Function(module, _PRODUCT_TYPE, _name(*kind)), *kind, host, parts)
    return module


@dataclass(frozen=True)
class Matrices:
    """What a product is of: A, rows `lda` apart; B, rows of couples `ldb` apart; C, rows `ldc`.

    `depth` is how many couples A's rows have of all parts, which is how many rows B has. `scales`
    is where what undoes the scales of B's columns lies, if its parts are HALVES.
    """

    a: ir.Value
    lda: ir.Value
    b: ir.Value
    ldb: ir.Value
    scales: ir.Value
    depth: ir.Value
    c: ir.Value
    ldc: ir.Value


def new_configuration(builder: ir.IRBuilder) -> ir.Value:
    """A variable for what `configure` was last told, in a function that multiplies."""
    with builder.goto_entry_block():
        variable = builder.alloca(I64)
        builder.store(integer(NO_ROWS), variable)
    return variable


def release(builder: ir.IRBuilder) -> None:
    """Give the units' registers back, at the end of a function that multiplied."""
    _call(builder, "tilerelease", [])


def call_products(
    builder: ir.IRBuilder,
    table: ir.Value,
    configuration: ir.Value,
    count: ir.Value,
    of: Matrices,
    columns: ir.Value,
    *,
    adds: ir.Value | None = None,
    start: ir.Value | None = None,
    is_far: ir.Value | None = None,
) -> None:
    """`count` rows of A against one or two tiles of B.

    Args:
        builder: writes the calls.
        table: the functions' addresses; see `code.tile_table`.
        configuration: see `new_configuration`.
        count: of the rows.
        of: the matrices.
        columns: of B, as many as two tiles have at most.
        adds, start: see `_PRODUCT_TYPE`; by default 0 and null.
        is_far: whether B comes from beyond a core's own cache; by default it does not.
    """
    is_narrow = builder.icmp_signed("<=", columns, integer(TILE))
    first = least(builder, columns, integer(TILE))
    second = builder.select(is_narrow, first, builder.sub(columns, first))  # none can be empty
    with loop(builder, 0, count, 2 * TILE) as low:
        left = builder.sub(count, low)
        is_last = builder.icmp_signed("<=", left, integer(TILE))
        rows = least(builder, left, integer(TILE))
        others = least(builder, builder.sub(left, rows), integer(TILE))
        sizes = [rows, builder.select(is_last, rows, others), first, second]
        wanted = sizes[0]
        for shift, size in enumerate(sizes[1:], 1):
            wanted = builder.or_(wanted, builder.shl(size, integer(8 * shift)))
        is_new = builder.icmp_signed("!=", wanted, builder.load(configuration, typ=I64))
        with builder.if_then(is_new):
            builder.store(wanted, configuration)
            builder.call(code_in(builder, table, integer(0), _CONFIGURE_TYPE), [wanted])
        narrow, wide = (
            builder.select(is_last, *(integer(_place(r, c, False)) for r in (1, 2))) for c in (1, 2)
        )
        place = builder.select(is_narrow, narrow, wide)
        if is_far is not None:  # the next tiles of A find B near
            reads = builder.and_(is_far, builder.icmp_signed("==", low, integer(0)))
            far = integer(_place(1, 1, True) - _place(1, 1, False))
            place = builder.add(place, builder.select(reads, far, integer(0)))
        a = offset(builder, of.a, builder.mul(low, of.lda))
        c = offset(builder, of.c, builder.mul(low, of.ldc))
        numbers = [a, of.lda, of.b, of.ldb, of.scales, of.depth, c, of.ldc]
        numbers.append(integer(0) if adds is None else adds)
        numbers.append(ir.Constant(POINTER, None) if start is None else start)
        numbers += [least(builder, left, integer(2 * TILE)), columns]
        builder.call(code_in(builder, table, place, _PRODUCT_TYPE), numbers)


def _build_configure(function: ir.Function) -> None:
    """(sizes): rows of A's two tiles and columns of B's, a byte each."""
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    (sizes,) = function.args
    shifts = [builder.lshr(sizes, integer(8 * place)) for place in range(4)]
    r1, r2, c1, c2 = (builder.trunc(byte, I8) for byte in shifts)
    # the first byte says of which kind this is; from 16 on the bytes of a row, from 48 on the rows
    kind = ir.VectorType(I8, CONFIGURATION_BYTES)
    table = ir.Constant(kind, [1, *[0] * (CONFIGURATION_BYTES - 1)])
    whole = ir.Constant(I8, TILE)
    for i, rows in enumerate((r1, r2)):
        for j, columns in enumerate((c1, c2)):
            sums = SUMS + 2 * i + j
            registers = ((sums, rows, columns), (OF_A + i, rows, whole), (OF_B + j, whole, columns))
            for register, own_rows, own_columns in registers:
                bytes_ = builder.mul(own_columns, ir.Constant(I8, 4))
                for place, value in ((16 + 2 * register, bytes_), (48 + register, own_rows)):
                    table = builder.insert_element(table, value, ir.Constant(I32, place))
    memory = builder.alloca(kind)
    builder.store(table, memory)
    _call(builder, "ldtilecfg", [memory])
    builder.ret_void()


def _build_product(
    function: ir.Function, rows: int, columns: int, is_far: bool, host: Host, parts: int
) -> None:
    """If B comes from far, each step asks for what the next one reads of it."""
    a, lda, b, ldb, scales, depth, c, ldc, adds, start, count, width = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    a_rows = [offset(builder, a, builder.mul(integer(i * TILE), lda)) for i in range(rows)]
    tiles = {(i, j): SUMS + 2 * i + j for i in range(rows) for j in range(columns)}
    to, distance = (c, ldc) if parts != HALVES else (_new_room(builder), integer(2 * TILE))
    sums = {}
    for (i, j), register in tiles.items():
        row = offset(builder, to, builder.mul(integer(i * TILE), distance))
        sums[register] = offset(builder, row, integer(j * TILE)), j
    if parts == HALVES:
        for register in sums:
            _call(builder, "tilezero", [ir.Constant(I8, register)])
    else:
        _begin(builder, sums, ldc, adds, start)
    with loop(builder, 0, depth, parts * TILE) as k:
        before = (-1, -1)
        for of_a, of_b in PAIRS[parts]:
            if of_a != before[0]:
                shift = builder.add(k, integer(of_a * TILE))
                for i in range(rows):
                    _load(builder, OF_A + i, offset(builder, a_rows[i], shift), lda)
            if of_b != before[1]:
                row = builder.mul(builder.add(k, integer(of_b * TILE)), ldb)
                for j in range(columns):
                    place = builder.add(row, integer(j * TILE))
                    _load(builder, OF_B + j, offset(builder, b, place), ldb)
                if is_far:
                    _ask(builder, b, row, ldb, parts)
            before = of_a, of_b
            product = "tdpfp16ps" if parts == HALVES else "tdpbf16ps"
            for (i, j), register in tiles.items():
                numbers = register, OF_A + i, OF_B + j
                _call(builder, product, [ir.Constant(I8, n) for n in numbers])
    for register, (place, _) in sums.items():
        bytes_ = builder.mul(distance, integer(4))
        _call(builder, "tilestored64", [ir.Constant(I8, register), place, bytes_])
    if parts == HALVES:
        v, is_added = Vectors(builder, host), builder.icmp_signed("!=", adds, integer(0))
        first = builder.select(is_added, c, _start_or_zeros(builder, start))
        base = first, builder.select(is_added, ldc, integer(0))
        undoing = offset(builder, a, depth), lda
        _bring(v, to, (undoing, scales), base, (c, ldc), (count, width), columns)
    builder.ret_void()


def _new_room(builder: ir.IRBuilder) -> ir.Value:
    """For four tiles of sums, two rows of two."""
    room = builder.alloca(ir.ArrayType(F32, 4 * TILE * TILE))
    room.align = 4 * LINE
    return room


def _start_or_zeros(builder: ir.IRBuilder, start: ir.Value) -> ir.Value:
    kind = ir.VectorType(F32, 2 * TILE)
    zeros = builder.alloca(kind)
    builder.store(ir.Constant(kind, [0.0] * (2 * TILE)), zeros)
    return builder.select(
        builder.icmp_unsigned("!=", start, ir.Constant(POINTER, None)), start, zeros
    )


def _bring(
    v: Vectors,
    room: ir.Value,
    scales: tuple[tuple[ir.Value, ir.Value], ir.Value],
    base: tuple[ir.Value, ir.Value],
    to: tuple[ir.Value, ir.Value],
    size: tuple[ir.Value, ir.Value],
    columns: int,
) -> None:
    """Sums from their room to C, their scales undone.

    Args:
        v: writes the code.
        room: where the sums are.
        scales: what undoes those of A's rows, (address, distance), and those of B's columns.
        base, to: (address, distance): what the sums are added to, and where they go.
        size: rows and columns of C.
        columns: of tiles.
    """
    builder, (count, width), ((of_rows, lda), of_columns) = v.builder, size, scales
    masks = [v.mask_below(builder.sub(width, integer(j * TILE))) for j in range(columns)]
    undoing = [v.load(offset(builder, of_columns, integer(j * TILE))) for j in range(columns)]
    with loop(builder, 0, count) as r:
        of_row = builder.load(offset(builder, of_rows, builder.mul(r, lda)), typ=F32, align=4)
        row = v.spread(of_row)
        for j in range(columns):
            place = builder.add(builder.mul(r, integer(2 * TILE)), integer(j * TILE))
            sums = v.mul(v.load(offset(builder, room, place)), undoing[j])
            own, there = (
                offset(builder, first, builder.add(builder.mul(r, distance), integer(j * TILE)))
                for first, distance in (base, to)
            )
            v.store(v.fused(sums, row, v.load(own, masks[j])), there, masks[j])


def _ask(builder: ir.IRBuilder, b: ir.Value, row: ir.Value, ldb: ir.Value, parts: int) -> None:
    """Ask the memory for what takes the place of a part of B at the next step."""
    later = builder.add(row, builder.mul(integer(parts * TILE), ldb))
    for line in range(2 * TILE):
        prefetch(builder, offset(builder, b, builder.add(later, integer(line * LINE))), nearness=3)


def _begin(
    builder: ir.IRBuilder,
    sums: dict[int, tuple[ir.Value, int]],
    ldc: ir.Value,
    adds: ir.Value,
    start: ir.Value,
) -> None:
    """Put into each register of sums, at (place, column), what its sums are added to."""
    has_start = builder.icmp_unsigned("!=", start, ir.Constant(POINTER, None))
    with builder.if_else(builder.icmp_signed("!=", adds, integer(0))) as (then, otherwise):
        with then:
            for register, (place, _) in sums.items():
                _load(builder, register, place, ldc)
        with otherwise, builder.if_else(has_start) as (begun, empty):
            with begun:
                for register, (_, j) in sums.items():  # rows no distance apart: all the same
                    own = offset(builder, start, integer(j * TILE))
                    _load(builder, register, own, integer(0))
            with empty:
                for register in sums:
                    _call(builder, "tilezero", [ir.Constant(I8, register)])


def _load(builder: ir.IRBuilder, register: int, place: ir.Value, distance: ir.Value) -> None:
    bytes_ = builder.mul(distance, integer(4))
    _call(builder, "tileloadd64", [ir.Constant(I8, register), place, bytes_])


def _call(builder: ir.IRBuilder, name: str, values: list[ir.Value]) -> None:
    kinds = [POINTER if isinstance(v.type, ir.PointerType) else v.type for v in values]
    builder.call(declare(builder, f"llvm.x86.{name}", ir.VoidType(), kinds), values)
