"""Couples: two neighbouring bfloat16 numbers in the place of one float32.

A processor that multiplies bfloat16 takes two products of each lane at once, and adds them up in
float32. So operands come in couples of neighbouring k, in whole vectors of them, zeros behind.
Everything that only moves numbers (packing, strides, addresses) moves couples as it moves float32.

There are as many couples as a number has `parts`: one, the nearest bfloat16, for products in
bfloat16; or three bfloat16 whose sum the float32 is, with eight of its 24 binary digits each, for
products in float32 by a unit that multiplies bfloat16 only (see `matrix`). All parts of a vector of
couples come before the next vector. An infinite number is no sum of any: sums with it are NaN.
"""

from llvmlite import ir

from recurra.kernels.cpu.flow import ceiling, loop
from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.tiles import LINE
from recurra.kernels.cpu.vector import Vectors, integer, offset

BFLOAT16, FLOAT32 = 1, 3  # parts


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


def row_size_of(v: Vectors, depth: ir.Value, parts: int) -> ir.Value:
    """`row_size` in code."""
    if not parts:
        return depth
    return v.builder.mul(ceiling(v.builder, depth, 2 * v.lanes), integer(v.lanes * parts))


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

        def write(k: ir.Value, *, is_masked: bool) -> None:
            halves = []
            for start in (k, builder.add(k, integer(lanes))):
                mask = v.mask_below(builder.sub(depth, start)) if is_masked else None
                halves.append(v.load(offset(builder, row, start), mask))
            for part, couples in enumerate(v.neighbours(*halves, parts=parts)):
                place = builder.mul(builder.sdiv(k, integer(2)), integer(parts))
                place = builder.add(place, integer(part * lanes))
                v.store(couples, offset(builder, to, place))

        with loop(builder, 0, whole, 2 * lanes) as k:
            write(k, is_masked=False)
        with builder.if_then(builder.icmp_signed("<", whole, depth)):
            write(whole, is_masked=True)
