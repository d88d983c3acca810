"""Couples: two neighbouring numbers of 16 bits in the place of one float32.

A processor that multiplies bfloat16 takes two products of each lane at once, and adds them up in
float32. So operands come in couples of neighbouring k, in whole vectors of them, zeros behind.
Everything that only moves numbers (packing, strides, addresses) moves couples as it moves float32.

There are as many couples as a number has `parts`: BFLOAT16, one, the nearest, for products in
bfloat16; or, for products in float32 by a unit that multiplies numbers of 16 bits only (see
`matrix`), THIRDS, three bfloat16 whose sum the float32 is, with eight of its 24 binary digits each,
or HALVES, two float16. All parts of a vector of couples come before the next vector. An infinite
number is no sum of any: sums with it are NaN.

A float16 has eleven digits, with its sign for one more: two of them miss a float32 by 2⁻²⁴ of it on
average. But it has no more than 2¹⁵ for the largest number, and 2⁻²⁴ for the least. So each row of
A and each column of B is multiplied by a power of two that brings its largest number to 2¹⁴, and
the sums by what undoes both. What is lost of a small number by the least float16 is 2⁻³⁹ of the
largest in its row or column. What undoes a row's scale stands behind its couples; what undoes those
of B's columns, in a row behind B's.
"""

from llvmlite import ir

from recurra.kernels.cpu.flow import ceiling, each_vector, loop
from recurra.kernels.cpu.host import HALVES, Host
from recurra.kernels.cpu.tiles import LINE
from recurra.kernels.cpu.vector import F32, I32, Vectors, declare, integer, offset

EXPONENT = 23  # digits of a float32 behind its exponent
LARGEST = 14  # the exponent of what scales bring the largest number to


def row_size(depth: int, host: Host, parts: int) -> int:
    """Couples of all parts of a row: whole vectors of them. Without parts, its numbers."""
    if not parts:
        return depth
    return -(-depth // (2 * host.lanes)) * host.lanes * parts


def couples_distance(depth: int, host: Host, parts: int) -> int:
    """Couples from row to row where all parts of a row are kept.

    A line more than there are, so that tiles' rows do not want the same places of the cache.
    """
    return row_size(depth, host, parts) + LINE if parts else 0


def packed_depth(depth: int, host: Host, parts: int) -> int:
    """Rows of B as it is packed: `row_size` of its depth, and what is behind them."""
    return row_size(depth, host, parts) + (parts == HALVES)


def row_size_of(v: Vectors, depth: ir.Value, parts: int) -> ir.Value:
    """`row_size` in code."""
    if not parts:
        return depth
    return v.builder.mul(ceiling(v.builder, depth, 2 * v.lanes), integer(v.lanes * parts))


def packed_rows(v: Vectors, size: ir.Value, parts: int) -> ir.Value:
    """`packed_depth` in code, of the `row_size`."""
    return v.builder.add(size, integer(int(parts == HALVES)))


def split_rows(
    v: Vectors,
    rows: tuple[ir.Value, ir.Value],
    count: ir.Value,
    depth: ir.Value,
    target: tuple[ir.Value, ir.Value],
    parts: int,
) -> None:
    """Write `count` float32 rows as couples.

    Args:
        v: writes the code.
        rows, target: the first row, and how far apart they are: numbers there, couples here, at
            least `row_size`.
        count, depth: of the rows.
        parts: of a number.
    """
    builder, lanes, (a, lda), (first, stride) = v.builder, v.lanes, rows, target
    whole = builder.and_(depth, integer(-2 * lanes))
    with loop(builder, 0, count) as r:
        row = offset(builder, a, builder.mul(r, lda))
        to = offset(builder, first, builder.mul(r, stride))
        scale = None
        if parts == HALVES:
            undoing = _undoing_of_row(v, row, depth)
            scale = scale_from(v, undoing)
            place = offset(builder, to, row_size_of(v, depth, parts))
            builder.store(builder.extract_element(undoing, ir.Constant(I32, 0)), place, align=4)

        def write(k: ir.Value, *, is_masked: bool) -> None:
            halves = []
            for start in (k, builder.add(k, integer(lanes))):
                mask = v.mask_below(builder.sub(depth, start)) if is_masked else None
                numbers = v.load(offset(builder, row, start), mask)
                halves.append(numbers if scale is None else v.mul(numbers, scale))
            for part, couples in enumerate(v.neighbours(*halves, parts=parts)):
                place = builder.mul(builder.sdiv(k, integer(2)), integer(parts))
                place = builder.add(place, integer(part * lanes))
                v.store(couples, offset(builder, to, place))

        with loop(builder, 0, whole, 2 * lanes) as k:
            write(k, is_masked=False)
        with builder.if_then(builder.icmp_signed("<", whole, depth)):
            write(whole, is_masked=True)


def _undoing_of_row(v: Vectors, row: ir.Value, depth: ir.Value) -> ir.Value:
    """What undoes the scale of a row, in each lane."""
    builder, largest = v.builder, new_magnitude(v)
    each_vector(
        v, depth, lambda j, mask: enlarge(v, largest, v.load(offset(builder, row, j), mask))
    )
    name = f"llvm.vector.reduce.umax.v{v.lanes}i32"
    function = declare(builder, name, I32, [v.int_type])
    most = builder.call(function, [builder.load(largest, typ=v.int_type)])
    return undoing_of(v, builder.bitcast(v.spread(builder.bitcast(most, F32)), v.int_type))


# -- scales: powers of two, lane by lane -----------------------------------------------------------


def new_magnitude(v: Vectors) -> ir.Value:
    """A variable for the largest magnitudes from here on, each as a float32's bits."""
    with v.builder.goto_entry_block():
        magnitude = v.builder.alloca(v.int_type)
    v.builder.store(v.whole(0), magnitude)
    return magnitude


def enlarge(v: Vectors, largest: ir.Value, numbers: ir.Value) -> None:
    """Take numbers into account."""
    largest_so_far = v.builder.load(largest, typ=v.int_type)
    v.builder.store(larger(v, largest_so_far, numbers), largest)


def larger(v: Vectors, magnitude: ir.Value, numbers: ir.Value) -> ir.Value:
    """The larger magnitude: as bits, they are in the order of their numbers, NaN behind all."""
    builder = v.builder
    own = builder.and_(builder.bitcast(numbers, v.int_type), v.whole(0x7FFFFFFF))
    function = declare(builder, f"llvm.umax.v{v.lanes}i32", v.int_type, [v.int_type, v.int_type])
    return builder.call(function, [magnitude, own])


def undoing_of(v: Vectors, magnitude: ir.Value) -> ir.Value:
    """What undoes the scale of numbers of at most this magnitude, itself a float32 that is normal.

    Numbers below 2⁻¹¹² are not brought quite so high.
    """
    builder = v.builder
    exponents = builder.lshr(magnitude, v.whole(EXPONENT))
    above = builder.sub(exponents, v.whole(LARGEST))
    above = builder.select(builder.icmp_signed(">", above, v.whole(1)), above, v.whole(1))
    return builder.bitcast(builder.shl(above, v.whole(EXPONENT)), v.type)


def scale_from(v: Vectors, undoing: ir.Value) -> ir.Value:
    """The scale that this undoes: 2⁻ⁿ of 2ⁿ."""
    bits = v.builder.bitcast(undoing, v.int_type)
    return v.builder.bitcast(v.builder.sub(v.whole(254 << EXPONENT), bits), v.type)
