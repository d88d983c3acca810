"""Register-blocked products: C[m, n] = A[m, k] @ B[k, n] for a few rows and one or two vectors.

A tile keeps m × vectors accumulators in registers. A is read as it lies (rows `lda` apart), one
number at a time; B is packed, the vectors of one k after another. With few rows the sum over k is
split over several sets of accumulators, because one set would wait for its own results. B's numbers
are asked for ahead of time: where R is larger than a core's own cache, the loop over time waited
for it a fifth of its time.

In bfloat16, A and B hold couples: two neighbouring k in the place of one number. Depth and strides
count couples then, and C is float32 as ever.
"""

from collections.abc import Callable

from llvmlite import ir

from recurra.kernels.cpu.flow import code_in, loop
from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.vector import I64, POINTER, Vectors, integer, offset

MAX_VECTORS = 2
# accumulators in flight that keep two multipliers of four steps' latency busy
IN_FLIGHT = 8
UNROLL = 4
LINE = 16  # numbers in a line of the cache
# Steps of a tile for each line that it asks for ahead of time, with vectors of a whole line. With
# twice as many lines these were a tenth slower, waiting (Granite Rapids).
STEPS_PER_LINE = 8
NEAR = 512  # numbers ahead of those that a tile uses, to be asked for


def _asked_per_step(lanes: int) -> int:
    """Numbers that a tile asks for ahead of time at each step."""
    return LINE // (STEPS_PER_LINE if lanes == LINE else UNROLL)


def max_rows(host: Host) -> int:
    """Rows of the largest tile.

    Sums, B's vectors and one of A's fit in the vector registers, and the rows' addresses in the
    sixteen general ones: twelve rows would fit the former, and ran at half the speed.
    """
    return 10 if host.registers >= 32 else 6


def tile_names(host: Host) -> dict[int, str]:
    """Which tile is in which place of the table of addresses."""
    return {
        _place(vectors, rows, reads): _name(vectors, rows, reads and vectors == MAX_VECTORS)
        for vectors, rows in _sizes(host)
        for reads in (False, True)
    }


def _sizes(host: Host) -> list[tuple[int, int]]:
    return [(v, r) for v in range(1, MAX_VECTORS + 1) for r in range(1, max_rows(host) + 1)]


def _place(vectors: int, rows: int, reads: bool) -> int:
    return (reads * MAX_VECTORS + vectors - 1) * 16 + rows


def _name(vectors: int, rows: int, reads: bool) -> str:
    return f"tile_{vectors}_{rows}" + ("_reads" if reads else "")


def tile_type() -> ir.FunctionType:
    """(A, lda, B, depth, C, ldc, adds, start, later); strides are in numbers.

    If adds ≠ 0, the sums are added to what C holds. `start` is the address of the tile's vectors of
    numbers that are in every row's sums, or null; `later` that of what to ask the memory for.
    """
    kinds = [POINTER, I64, POINTER, I64, POINTER, I64, I64, POINTER, POINTER]
    return ir.FunctionType(ir.VoidType(), kinds)


def call_tiles(
    builder: ir.IRBuilder,
    host: Host,
    table: ir.Value,
    count: ir.Value,
    rows: tuple[ir.Value, ir.Value],
    panel: tuple[ir.Value, ir.Value],
    results: tuple[ir.Value, ir.Value],
    *,
    vectors: int,
    adds: bool = False,
    start: ir.Value | None = None,
    ask: Callable[[ir.Value, ir.Value], ir.Value] | None = None,
    is_far: ir.Value | None = None,
) -> None:
    """`count` rows against one panel, in tiles of nearly the same number of rows.

    Args:
        builder: writes the calls.
        host: for its largest tile.
        table: the tiles' addresses; see `code.tile_table`.
        count: of the rows.
        rows: A and lda.
        panel: B and the depth.
        results: C and ldc.
        vectors: of the panel.
        adds, start: see `tile_type`.
        ask: told what a tile would ask the memory for, an address in the next panel, and for how
            many numbers, says what it shall ask for instead. Only with vectors of a whole line.
        is_far: whether all tiles of a panel shall do as its first. Likewise.
    """
    (a, lda), (b, depth), (c, ldc) = rows, panel, results
    parts = builder.sdiv(builder.add(count, integer(max_rows(host) - 1)), integer(max_rows(host)))
    is_only = builder.icmp_signed("==", parts, integer(1))
    with loop(builder, 0, parts) as part:
        low = builder.sdiv(builder.mul(count, part), parts)
        high = builder.sdiv(builder.mul(count, builder.add(part, integer(1))), parts)
        reads = is_only
        if host.lanes >= LINE:
            reads = builder.icmp_signed("==", part, integer(0))
            reads = reads if is_far is None else builder.or_(reads, is_far)
        bank = builder.select(reads, *(integer(_place(vectors, 0, r)) for r in (True, False)))
        slot = builder.add(bank, builder.sub(high, low))
        a_tile = offset(builder, a, builder.mul(low, lda))
        c_tile = offset(builder, c, builder.mul(low, ldc))
        first = ir.Constant(POINTER, None) if start is None else start
        asked = builder.mul(depth, integer(_asked_per_step(host.lanes)))
        # each of four tiles asks for another part of the next panel
        share = builder.mul(builder.and_(part, integer(3)), asked)
        done = builder.mul(depth, integer(vectors * host.lanes))
        later = offset(builder, b, builder.add(done, share))
        if ask is not None and host.lanes >= LINE:
            later = ask(later, builder.select(reads, integer(0), asked))
        numbers = [a_tile, lda, b, depth, c_tile, ldc, integer(int(adds)), first, later]
        builder.call(code_in(builder, table, slot, tile_type()), numbers)


def build_tiles(host: Host, parts: int) -> ir.Module:
    """A module with every tile that this host uses, for numbers or couples (of one part)."""
    module = ir.Module("tiles")
    for vectors, rows in _sizes(host):
        for reads in (False, True) if vectors == MAX_VECTORS else (False,):
            function = ir.Function(module, tile_type(), _name(vectors, rows, reads))
            _build_tile(function, host, vectors, rows, reads, in_bfloat16=parts > 0)
    return module


def _build_tile(
    function: ir.Function, host: Host, vectors: int, rows: int, reads: bool, *, in_bfloat16: bool
) -> None:
    """`reads`: the panel comes from far; see `_ask_ahead`."""
    a, lda, b, depth, c, ldc, adds, start, later = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    v = Vectors(builder, host)
    sets = min(UNROLL, max(1, IN_FLIGHT // (rows * vectors)))
    starts = [offset(builder, a, builder.mul(integer(i), lda)) for i in range(rows)]
    targets = [
        [
            offset(builder, c, builder.add(builder.mul(integer(i), ldc), integer(j * host.lanes)))
            for j in range(vectors)
        ]
        for i in range(rows)
    ]
    zero = [[v.constant(0.0)] * vectors for _ in range(rows)]
    first = [_start(v, start, vectors)] * rows
    whole = builder.and_(depth, integer(-UNROLL))
    fused = v.fused_couples if in_bfloat16 else v.fused
    operands, beginning = (starts, b, later), [first, *[zero] * (sets - 1)]
    sums = _loop(v, fused, operands, (integer(0), whole), beginning, vectors, UNROLL, reads)
    total = [[_tree(v, [s[i][j] for s in sums]) for j in range(vectors)] for i in range(rows)]
    (total,) = _loop(v, fused, operands, (whole, depth), [total], vectors, 1)
    _write(v, total, targets, builder.icmp_signed("!=", adds, integer(0)))
    builder.ret_void()


def _ask_ahead(
    v: Vectors,
    b: ir.Value,
    k: ir.Value,
    step: int,
    later: ir.Value,
    reads: bool,
) -> None:
    """Ask for numbers before they are due, at step k + `step`.

    A panel's first tile uses B's numbers up as fast as they come: it asks for those that are some
    dozens of steps ahead. With 16 lanes, into the nearest cache: sequences of batch 1 run 1.1 to
    1.25 times as fast as with the next panel asked for into the second one, batches up to 1.05
    times (Granite Rapids). The others ask for `later`, with one line every few steps; but where
    panels come from beyond a core's own cache, all do as the first.

    With fewer lanes (Zen 3), that costs a tenth of the loop where there are more tiles than one: so
    each of these asks for a part of the next panel, 8 % of the loop where R comes from the memory.
    A tile that is the only one runs up to 1.5 times as fast with what is near asked for.
    """
    builder = v.builder
    width, at = MAX_VECTORS * v.lanes, builder.add(k, integer(step))
    if reads:
        ahead = builder.add(builder.mul(at, integer(width)), integer(NEAR))
        for j in range(0, width, LINE):
            place = offset(builder, b, builder.add(ahead, integer(j)))
            v.prefetch(place, nearness=3 if v.lanes >= LINE else 2)
    elif step == 0:
        v.prefetch(offset(builder, later, builder.mul(k, integer(_asked_per_step(v.lanes)))))


def _start(v: Vectors, start: ir.Value, vectors: int) -> list[ir.Value]:
    """The vectors at an address, or zeros if it is null."""
    builder = v.builder
    before = builder.block
    with builder.if_then(builder.icmp_unsigned("!=", start, ir.Constant(POINTER, None))):
        loaded = [v.load(offset(builder, start, integer(j * v.lanes))) for j in range(vectors)]
        inside = builder.block
    found = []
    for value in loaded:
        found.append(builder.phi(v.type))
        found[-1].add_incoming(v.constant(0.0), before)
        found[-1].add_incoming(value, inside)
    return found


def _tree(v: Vectors, values: list[ir.Value]) -> ir.Value:
    while len(values) > 1:
        values = [v.add(p, q) for p, q in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def _loop(
    v: Vectors,
    fused: Callable[[ir.Value, ir.Value, ir.Value], ir.Value],
    operands: tuple[list[ir.Value], ir.Value, ir.Value],
    bounds: tuple[ir.Value, ir.Value],
    sums: list[list[list[ir.Value]]],
    vectors: int,
    unroll: int,
    reads: bool = False,
) -> list[list[list[ir.Value]]]:
    """Add products to the sums, `unroll` at a time.

    Args:
        v, fused: write the code.
        operands: A's rows, B, and `later` of `tile_type`.
        bounds: k from which to which.
        sums: sets of the tile's sums.
        vectors, unroll, reads: of the panel; of the loop; see `_build_tile`.
    """
    (rows, b, later), (start, stop) = operands, bounds
    builder, function = v.builder, v.builder.function
    before = builder.block
    body, after = (function.append_basic_block(name) for name in ("body", "after"))
    builder.cbranch(builder.icmp_signed("<", start, stop), body, after)
    builder.position_at_end(body)
    k = builder.phi(I64)
    k.add_incoming(start, before)
    current = [[[builder.phi(v.type) for _ in row] for row in part] for part in sums]
    new = current
    for step in range(unroll):
        at = builder.add(k, integer(step))
        first = builder.mul(at, integer(vectors * v.lanes))
        panel = [
            v.load(offset(builder, b, builder.add(first, integer(j * v.lanes))))
            for j in range(vectors)
        ]
        if unroll > 1 and vectors == MAX_VECTORS:
            _ask_ahead(v, b, k, step, later, reads)
        chosen = step % len(sums)
        products = []
        for i, row in enumerate(rows):
            scalar = v.spread(builder.load(offset(builder, row, at), typ=v.type.element, align=4))
            products.append([fused(scalar, panel[j], new[chosen][i][j]) for j in range(vectors)])
        new = [products if n == chosen else part for n, part in enumerate(new)]
    following = builder.add(k, integer(unroll))
    k.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, stop), body, after)
    builder.position_at_end(after)
    results = []
    for part, phis, last in zip(sums, current, new, strict=True):
        rows_out = []
        for values, phi_row, last_row in zip(part, phis, last, strict=True):
            out = []
            for value, phi, end in zip(values, phi_row, last_row, strict=True):
                phi.add_incoming(value, before)
                phi.add_incoming(end, body)
                result = builder.phi(v.type)
                result.add_incoming(value, before)
                result.add_incoming(end, body)
                out.append(result)
            rows_out.append(out)
        results.append(rows_out)
    return results


def _write(
    v: Vectors, values: list[list[ir.Value]], targets: list[list[ir.Value]], adds: ir.Value
) -> None:
    with v.builder.if_else(adds) as (then, otherwise):
        with then:
            for row, places in zip(values, targets, strict=True):
                for value, place in zip(row, places, strict=True):
                    v.store(v.add(value, v.load(place)), place)
        with otherwise:
            for row, places in zip(values, targets, strict=True):
                for value, place in zip(row, places, strict=True):
                    v.store(value, place)
