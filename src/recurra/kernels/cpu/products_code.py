"""LLVM code for products of many rows by one weight, and the module of all products.

`product_of_rows`: C[r, n] = Σ_k A[r, k] W[n, k] + bias[n], in the loop's own tiles, some rows at a
time (BLOCK_ROWS). Threads share the rows. Where the operands are couples, each row is split to them
first.
"""

from collections.abc import Callable
from functools import partial

from llvmlite import ir

from recurra.kernels.cpu.couples import (
    couples_distance,
    packed_rows,
    row_size_of,
    split_rows,
)
from recurra.kernels.cpu.flow import Arguments, build_entry, ceiling, even, least, loop
from recurra.kernels.cpu.host import BFLOAT16, HALVES, THIRDS, Host
from recurra.kernels.cpu.matrix import (
    Matrices,
    call_products,
    new_configuration,
    release,
)
from recurra.kernels.cpu.matrix_sums_code import sums_of_parts
from recurra.kernels.cpu.packing_code import (
    PACK_ARGUMENTS,
    TAKE_ARGUMENTS,
    couple_rows,
    pack_turned,
    pack_units,
    take_rows,
)
from recurra.kernels.cpu.sums_code import SUM_ARGUMENTS, sums_of_products
from recurra.kernels.cpu.tiles import LINE, MAX_VECTORS, call_tiles
from recurra.kernels.cpu.vector import I64, POINTER, Vectors, integer, offset, prefetch

BLOCK_ROWS = 120  # whose couples a core's own caches hold, with a panel of the weight
# For matrix units, by parts: the weight's vectors and depth whose couples a core's own cache holds.
BLOCKS = {BFLOAT16: (80, 256), HALVES: (80, 256), THIRDS: (80, 192)}
UNIT_ROWS = 16  # rows whose couples of that depth the nearest cache holds
ROW_ARGUMENTS = (
    "rows", "depth", "units", "a", "a_row", "weight", "bias", "c", "c_row", "tiles", "couples",
    "couples_row", "couples_thread", "thread_number", "thread_count",
)  # fmt: skip


def build_products(host: Host) -> ir.Module:
    """The module; each function is `(arguments, thread, threads)` and has an entry for a team.

    Those whose operands may be couples come once for each number of parts; see `with_parts`.
    """
    module = ir.Module("products")
    functions: list[tuple[str, tuple[str, ...], Callable[[ir.Function, Host], None]]] = [
        ("take_rows", TAKE_ARGUMENTS, take_rows)
    ]
    if host.multiplies_bfloat16:
        functions.append(("couple_rows", PACK_ARGUMENTS, couple_rows))
    for parts in possible_parts(host):
        uses_units = host.uses_units(parts)
        for name, names, emit_parts in (
            ("sums_of_products", SUM_ARGUMENTS, sums_of_parts if uses_units else sums_of_products),
            (
                "product_of_rows",
                ROW_ARGUMENTS,
                _product_of_parts if uses_units else _product_of_rows,
            ),
            ("pack_units", PACK_ARGUMENTS, pack_units),
            ("pack_turned", PACK_ARGUMENTS, pack_turned),
        ):
            functions.append((with_parts(name, parts), names, partial(emit_parts, parts=parts)))
    for name, names, emit in functions:
        type_ = ir.FunctionType(ir.VoidType(), [POINTER, I64, I64])
        function = ir.Function(module, type_, name)
        emit(function, host)
        build_entry(module, function, names)
    return module


def couples_of_rows(host: Host, depth: int, parts: int) -> tuple[int, int]:
    """Couples of a row that is split, and of all rows that a thread splits at once."""
    if not parts:
        return 0, 0
    depth, rows = (
        (min(depth, BLOCKS[parts][1]), UNIT_ROWS) if host.has_matrix_units else (depth, BLOCK_ROWS)
    )
    row = couples_distance(depth, host, parts)
    return row, rows * row


def with_parts(name: str, parts: int) -> str:
    """The name of a function whose operands are couples of so many parts; 0: plain numbers."""
    return f"{name}_{parts}"


def possible_parts(host: Host) -> tuple[int, ...]:
    """Of how many parts this host multiplies couples; 0: plain numbers."""
    if host.has_matrix_units:
        return 0, BFLOAT16, host.float32_parts
    return (0, BFLOAT16) if host.multiplies_bfloat16 else (0,)


def _product_of_rows(function: ir.Function, host: Host, *, parts: int) -> None:
    given = Arguments(function, ROW_ARGUMENTS)
    builder, lanes = given.builder, host.lanes
    v, depth = Vectors(builder, host), given["depth"]
    steps = row_size_of(v, depth, parts)
    vectors = ceiling(builder, given["units"], lanes)
    couples = given.at("couples", builder.mul(given.thread, given["couples_thread"]))
    own = couples, given["couples_row"]
    first, stop = given.share(given["rows"])
    tiles = builder.inttoptr(given["tiles"], POINTER)
    with loop(builder, first, stop, BLOCK_ROWS) as start:
        count = least(builder, integer(BLOCK_ROWS), builder.sub(stop, start))
        rows = given.at("a", builder.mul(start, given["a_row"])), given["a_row"]
        if parts:
            split_rows(v, rows, count, depth, own, parts)
            rows = own
        c = given.at("c", builder.mul(start, given["c_row"]))
        with loop(builder, 0, vectors, MAX_VECTORS) as vector:
            column = builder.mul(vector, integer(lanes))
            panel = given.at("weight", builder.mul(column, steps))
            to = offset(builder, c, column)
            is_alone = builder.icmp_signed("==", builder.sub(vectors, vector), integer(1))
            with builder.if_else(is_alone) as (then, otherwise):
                for branch, width in ((then, 1), (otherwise, MAX_VECTORS)):
                    with branch:
                        call_tiles(
                            *(builder, host, tiles, count, rows),
                            *((panel, steps), (to, given["c_row"])),
                            vectors=width,
                            start=given.at("bias", column),
                        )
    builder.ret_void()


def _product_of_parts(function: ir.Function, host: Host, *, parts: int) -> None:
    """The same by matrix units.

    A block of the weight stays in a core's own cache while all rows pass by, some at a time, whose
    couples stay in the nearest one.
    """
    given = Arguments(function, ROW_ARGUMENTS)
    builder, lanes = given.builder, host.lanes
    v, depth = Vectors(builder, host), given["depth"]
    size = row_size_of(v, depth, parts)
    vectors = ceiling(builder, given["units"], lanes)
    couples = given.at("couples", builder.mul(given.thread, given["couples_thread"]))
    couples_row, table = given["couples_row"], builder.inttoptr(given["tiles"], POINTER)
    configuration = new_configuration(builder)
    first, stop = given.share(given["rows"])
    most_vectors, most_depth = BLOCKS[parts]
    block_vectors = even(builder, vectors, most_vectors, step=2)
    block_depth = even(builder, depth, most_depth, step=2 * lanes)
    with (
        loop(builder, 0, vectors, block_vectors) as low,
        loop(builder, 0, depth, block_depth) as k,
        loop(builder, first, stop, UNIT_ROWS) as r,
    ):
        high = least(builder, vectors, builder.add(low, block_vectors))
        count = least(builder, integer(UNIT_ROWS), builder.sub(stop, r))
        deep = least(builder, block_depth, builder.sub(depth, k))
        rows = given.at("a", builder.add(builder.mul(r, given["a_row"]), k)), given["a_row"]
        split_rows(v, rows, count, deep, (couples, couples_row), parts)
        steps = row_size_of(v, deep, parts)
        before = builder.mul(builder.sdiv(k, integer(2)), integer(parts))
        adds = builder.zext(builder.icmp_signed(">", k, integer(0)), I64)
        left = builder.sub(builder.sub(stop, r), integer(UNIT_ROWS))
        later = offset(builder, rows[0], builder.mul(integer(UNIT_ROWS), rows[1])), rows[1]
        with loop(builder, low, high, 2) as vector:
            share = builder.sub(vector, low), builder.sub(high, low)
            _ask_for_rows(builder, later, least(builder, integer(UNIT_ROWS), left), deep, share)
            column = builder.mul(vector, integer(lanes))
            width = least(builder, builder.sub(vectors, vector), integer(2))
            ldb = builder.mul(width, integer(lanes))
            whole = given.at("weight", builder.mul(column, packed_rows(v, size, parts)))
            there = builder.add(builder.mul(r, given["c_row"]), column)
            matrices = Matrices(
                *(couples, couples_row, offset(builder, whole, builder.mul(before, ldb)), ldb),
                *(offset(builder, whole, builder.mul(size, ldb)), steps),
                *(given.at("c", there), given["c_row"]),
            )
            call_products(
                *(builder, table, configuration, count, matrices, ldb),
                adds=adds,
                start=given.at("bias", column),
            )
    release(builder)
    builder.ret_void()


def _ask_for_rows(
    builder: ir.IRBuilder,
    rows: tuple[ir.Value, ir.Value],
    count: ir.Value,
    depth: ir.Value,
    share: tuple[ir.Value, ir.Value],
) -> None:
    """Ask for a panel's share of the rows that come next: of (vectors before it, all vectors)."""
    (first, distance), (before, vectors) = rows, share
    low, high = (
        builder.sdiv(builder.mul(count, part), vectors)
        for part in (before, least(builder, builder.add(before, integer(2)), vectors))
    )
    with loop(builder, low, high) as r, loop(builder, 0, depth, LINE) as j:
        place = builder.add(builder.mul(r, distance), j)
        prefetch(builder, offset(builder, first, place))
