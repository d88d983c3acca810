"""LLVM code for a softmax over many words, between the products before and after it.

Glossary: R rows of features (time·batch), in panels of P = 2 vectors of rows; F features; V words,
in blocks of W.

    x       (R/P, F, P)       features, panel by panel, a panel's rows innermost
    e       (V/W, R/P, W, P)  exp(x·w + b - shift), W words together
    sums    (threads, R/P, P)       Σ_w e
    d_x     (threads, R/P, F, P)    Σ_w e·w, not yet divided by the sums
    y       (⌈(F+1)/P⌉, R, P)       features over sums, and 1 over sums as feature F, P at a time
    d_w     (V, F), d_b (V)         Σ_r e·y

In bfloat16 all operands are couples (see `couples`), half as many as there are numbers:

    x, weight                       of neighbouring features
    weight_by_words, e_by_words     of neighbouring words
    e, y                            of neighbouring rows

and V is even. What is added up (sums, d_x, d_w) is float32 as ever. In float32 `weight_by_words` is
`weight`, and `e_by_words` is `e`.

`exponentials` fills e, sums and d_x in one sweep over the words: a block of words at a time, so
that the block's weights and exponentials are still in the cache when d_x is added up. `gradients`
is the sweep for d_w and d_b, which needs the sums. `sums` fills nothing but sums. All read the
weights as they lie: no word is ever packed or copied. Words are shared out between threads. A tile
is a product of a few words (or features) with one panel: its sums stay in registers; the numbers of
the one side are spread to vectors as they are read, the other side is read as vectors.
"""

from collections.abc import Callable

from llvmlite import ir

from recurra.kernels.cpu.flow import Arguments, build_entry, each_vector, loop
from recurra.kernels.cpu.host import BFLOAT16, Host
from recurra.kernels.cpu.vector import F32, I32, I64, POINTER, Vectors, integer, offset

PANEL_VECTORS = 2
TILES_PER_BLOCK = 8
LINE = 16  # numbers in a line of the cache
UNROLL = 4
ARGUMENTS = (
    "words", "panels", "x", "weight", "weight_by_words", "bias", "shift", "e", "e_by_words", "sums",
    "d_x", "y", "d_weight", "d_bias", "adds", "thread_number", "thread_count",
)  # fmt: skip
ROW_ARGUMENTS = (
    "rows", "columns", "e", "e_row", "shift", "sums", "thread_number", "thread_count",
)  # fmt: skip


def tile_rows(host: Host) -> int:
    """Words of a tile: sums, the panel's vectors and one spread number fit in the registers."""
    return 12 if host.registers >= 32 else 6


def panel_rows(host: Host) -> int:
    """Rows of a panel."""
    return PANEL_VECTORS * host.lanes


def block_words(host: Host) -> int:
    """Words whose exponentials lie together."""
    return TILES_PER_BLOCK * tile_rows(host)


def build_softmax(host: Host, features: int, *, in_bfloat16: bool) -> ir.Module:
    """A module with `exponentials`, `gradients` and `sums`, (arguments, thread, threads), and an
    entry `…_entry(arguments)` for each that asks OpenMP for its thread."""
    module = ir.Module("softmax")
    emitter = _Emitter(module, host, features, in_bfloat16)
    sweeps: dict[str, Callable[[ir.Function], None]] = {
        "exponentials": lambda function: emitter.exponentials(function, keeps=True),
        "gradients": emitter.gradients,
        "sums": lambda function: emitter.exponentials(function, keeps=False),
    }
    for name, emit in sweeps.items():
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, I64, I64]), name)
        emit(function)
        build_entry(module, function, ARGUMENTS)
    return module


def build_exponentials_of_rows(host: Host) -> ir.Module:
    """A module with `exponentials_of_rows`, by a team, too: rows of logits, in whose place their
    exponentials less each row's shift come, and each row's sum."""
    module = ir.Module("softmax_rows")
    type_ = ir.FunctionType(ir.VoidType(), [POINTER, I64, I64])
    function = ir.Function(module, type_, "exponentials_of_rows")
    given = Arguments(function, ROW_ARGUMENTS)
    builder, v = given.builder, Vectors(given.builder, host)
    with builder.goto_entry_block():
        total = builder.alloca(v.type)
    first, stop = given.share(given["rows"])
    with loop(builder, first, stop) as r:
        row = given.at("e", builder.mul(r, given["e_row"]))
        shift = v.spread(builder.load(given.at("shift", r), typ=F32, align=4))
        builder.store(v.constant(0.0), total)

        def replace(j: ir.Value, mask: ir.Value | None) -> None:
            place = offset(builder, row, j)
            value = v.exp(v.sub(v.load(place, mask), shift))
            v.store(value, place, mask)
            if mask is not None:
                value = v.where(mask, value, v.constant(0.0))
            builder.store(v.add(builder.load(total, typ=v.type), value), total)

        each_vector(v, given["columns"], replace)
        of_row = v.total(builder.load(total, typ=v.type))
        builder.store(of_row, given.at("sums", r), align=4)
    builder.ret_void()
    build_entry(module, function, ROW_ARGUMENTS)
    return module


class _Sums:
    """The sums of a tile: rows × vectors. LLVM keeps them in registers."""

    def __init__(self, v: Vectors, rows: int, vectors: int, in_bfloat16: bool) -> None:
        self.v, self.rows, self.vectors = v, rows, vectors
        self.fused = v.fused_couples if in_bfloat16 else v.fused
        self.slots = [[v.builder.alloca(v.type) for _ in range(vectors)] for _ in range(rows)]

    def set(self, i: int, j: int, value: ir.Value) -> None:
        self.v.builder.store(value, self.slots[i][j])

    def get(self, i: int, j: int) -> ir.Value:
        return self.v.builder.load(self.slots[i][j], typ=self.v.type)

    def add_products(self, numbers: list[ir.Value], panel: ir.Value) -> None:
        """Add the product of one number for each row (addresses) and the panel's vectors."""
        v = self.v
        columns = [
            v.load(offset(v.builder, panel, integer(j * v.lanes))) for j in range(self.vectors)
        ]
        for i, number in enumerate(numbers):
            spread = v.spread(v.builder.load(number, typ=F32, align=4))
            for j, column in enumerate(columns):
                self.set(i, j, self.fused(spread, column, self.get(i, j)))


class _Emitter:
    def __init__(self, module: ir.Module, host: Host, features: int, in_bfloat16: bool) -> None:
        self.module, self.host, self.features = module, host, features
        self.width = panel_rows(host)
        self.rows, self.block = tile_rows(host), block_words(host)
        self.in_bfloat16 = in_bfloat16
        # numbers that share a place: words of the least tile, and what features and a panel's rows
        # are divided by
        self.together = 2 if in_bfloat16 else 1
        self.depth = -(-features // self.together)
        self.places = self.width // self.together

    # -- tiles ------------------------------------------------------------------------------------

    def _function(self, name: str, kinds: str) -> tuple[ir.Function, Vectors]:
        """A function of this module; p: an address, i: a number."""
        types = [POINTER if kind == "p" else I64 for kind in kinds]
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), types), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        return function, Vectors(ir.IRBuilder(function.append_basic_block("entry")), self.host)

    def exponential_tile(self, rows: int, *, keeps: bool) -> ir.Function:
        """(weight, bias, x, shift, e, e_by_words, sums): some words against one panel of rows.

        Without `keeps`, e is left alone.
        """
        name = f"exponentials_{rows}" if keeps else f"sums_{rows}"
        function, v = self._function(name, "ppppppp")
        weight, bias, x, shift, e, e_by_words, sums = function.args
        builder, tile = v.builder, _Sums(v, rows, PANEL_VECTORS, self.in_bfloat16)
        for i in range(rows):
            number = builder.load(offset(builder, bias, integer(i)), typ=F32, align=4)
            for j in range(PANEL_VECTORS):
                tile.set(i, j, v.spread(number))

        def step(k: ir.Value) -> None:
            places = [builder.add(k, integer(i * self.depth)) for i in range(rows)]
            panel = offset(builder, x, builder.mul(k, integer(self.width)))
            tile.add_products([offset(builder, weight, place) for place in places], panel)

        self._over_depth(v, integer(self.depth), step)
        for j in range(PANEL_VECTORS):
            at = integer(j * v.lanes)
            lowered = v.load(offset(builder, shift, at))
            total = v.load(offset(builder, sums, at))
            for i in range(rows):
                value = v.exp(v.sub(tile.get(i, j), lowered))
                tile.set(i, j, value)
                total = v.add(total, value)
            v.store(total, offset(builder, sums, at))
        if keeps:
            self._keep(tile, e, e_by_words)
        builder.ret_void()
        return function

    def _keep(self, tile: "_Sums", e: ir.Value, e_by_words: ir.Value) -> None:
        """Store a tile's exponentials: as they are, or in couples of both kinds."""
        v, builder = tile.v, tile.v.builder
        for i in range(tile.rows):
            values = [tile.get(i, j) for j in range(PANEL_VECTORS)]
            if self.in_bfloat16:
                values = v.neighbours(*values, parts=BFLOAT16)
            for j, value in enumerate(values):
                v.store(value, offset(builder, e, integer(i * self.places + j * v.lanes)))
        if not self.in_bfloat16:
            return
        for i in range(0, tile.rows, 2):
            for j in range(PANEL_VECTORS):
                (couple,) = v.couples(tile.get(i, j), tile.get(i + 1, j), parts=BFLOAT16)
                place = integer(i // 2 * self.width + j * v.lanes)
                v.store(couple, offset(builder, e_by_words, place))

    def feature_tile(self, rows: int) -> ir.Function:
        """(weight, e, words, d_x): some features, summed over words, for one panel of rows.

        In bfloat16 weight, e and words are couples of words.
        """
        function, v = self._function(f"features_{rows}", "ppip")
        weight, e, words, d_x = function.args
        builder, tile = v.builder, _Sums(v, rows, PANEL_VECTORS, self.in_bfloat16)
        places = [
            [
                offset(builder, d_x, integer(i * self.width + j * v.lanes))
                for j in range(PANEL_VECTORS)
            ]
            for i in range(rows)
        ]
        for i, row in enumerate(places):
            for j, place in enumerate(row):
                tile.set(i, j, v.load(place))

        def step(k: ir.Value) -> None:
            base = builder.mul(k, integer(self.features))
            tile.add_products(
                [offset(builder, weight, builder.add(base, integer(i))) for i in range(rows)],
                offset(builder, e, builder.mul(k, integer(self.width))),
            )

        self._over_depth(v, words, step)
        for i, row in enumerate(places):
            for j, place in enumerate(row):
                v.store(tile.get(i, j), place)
        builder.ret_void()
        return function

    def word_tile(self, rows: int, first_column: int) -> ir.Function:
        """(e, panels, y, d_weight, d_bias, adds): some words, summed over rows.

        While a tile is at work the next one's numbers are fetched, a few by each group of columns.
        """
        function, v = self._function(f"words_{rows}_{first_column}", "pipppi")
        e, panels, y, d_weight, d_bias, adds = function.args
        builder, lanes = v.builder, v.lanes
        left = -(-(self.features + 1 - first_column) // lanes)
        tile = _Sums(v, rows, min(PANEL_VECTORS, left), self.in_bfloat16)
        for i in range(rows):
            for j in range(tile.vectors):
                tile.set(i, j, v.constant(0.0))
        groups, group = -(-(self.features + 1) // self.width), first_column // self.width
        lines = range(group * LINE, rows * self.places, groups * LINE)
        with loop(builder, 0, panels) as panel:
            stride = integer(self.block * self.places)
            e_panel = offset(builder, e, builder.mul(panel, stride))
            for line in lines:
                v.prefetch(offset(builder, e_panel, integer(rows * self.places + line)), nearness=3)
            y_panel = offset(builder, y, builder.mul(panel, integer(self.places * self.width)))
            with loop(builder, 0, self.places, UNROLL) as start:
                for k in (builder.add(start, integer(u)) for u in range(UNROLL)):
                    numbers = [
                        offset(builder, e_panel, builder.add(k, integer(i * self.places)))
                        for i in range(rows)
                    ]
                    tile.add_products(
                        numbers, offset(builder, y_panel, builder.mul(k, integer(self.width)))
                    )
        is_adding = builder.icmp_signed("!=", adds, integer(0))
        with builder.if_else(is_adding) as (then, otherwise):
            for branch, adding in ((then, True), (otherwise, False)):
                with branch:
                    self._write_words(v, tile, first_column, d_weight, d_bias, adding)
        builder.ret_void()
        return function

    def _write_words(
        self,
        v: Vectors,
        tile: _Sums,
        first_column: int,
        d_weight: ir.Value,
        d_bias: ir.Value,
        adding: bool,
    ) -> None:
        builder = v.builder
        for i in range(tile.rows):
            for j in range(tile.vectors):
                column = first_column + j * v.lanes
                inside = min(max(self.features - column, 0), v.lanes)
                value = tile.get(i, j)
                if inside:
                    mask = None if inside == v.lanes else v.mask_below(integer(inside))
                    place = offset(builder, d_weight, integer(i * self.features + column))
                    v.store(v.add(value, v.load(place, mask)) if adding else value, place, mask)
                if column <= self.features < column + v.lanes:
                    lane = ir.Constant(I32, self.features - column)
                    number = builder.extract_element(value, lane)
                    place = offset(builder, d_bias, integer(i))
                    if adding:
                        number = builder.fadd(number, builder.load(place, typ=F32, align=4))
                    builder.store(number, place, align=4)

    def _over_depth(self, v, depth, step) -> None:  # type: ignore[no-untyped-def]
        """`step(k)` for each k below depth, several in one turn of the loop."""
        builder = v.builder
        whole = builder.and_(depth, integer(-UNROLL))
        with loop(builder, 0, whole, UNROLL) as start:
            for u in range(UNROLL):
                step(builder.add(start, integer(u)))
        with loop(builder, whole, depth) as k:
            step(k)

    # -- sweeps -----------------------------------------------------------------------------------

    def exponentials(self, function: ir.Function, *, keeps: bool) -> None:
        big, small = (
            self.exponential_tile(rows, keeps=keeps) for rows in (self.rows, self.together)
        )
        whole, rest = divmod(self.features, self.rows) if keeps else (0, 0)
        feature_tiles = [(self.feature_tile(self.rows), 0, whole)] if whole else []
        if rest:
            feature_tiles.append((self.feature_tile(rest), whole * self.rows, 1))
        sweep = _Sweep(function, self)
        builder, width, features = sweep.builder, self.width, self.features
        with loop(builder, sweep.first, sweep.stop, self.block) as start:
            count = sweep.least(integer(self.block), builder.sub(sweep.stop, start))
            weight = sweep.at("weight", builder.mul(start, integer(self.depth)))
            first_word = builder.sdiv(start, integer(self.together))
            by_words = sweep.at("weight_by_words", builder.mul(first_word, integer(features)))
            words = builder.sdiv(count, integer(self.together))
            bias = sweep.at("bias", start)
            with loop(builder, 0, sweep.number("panels")) as p:
                own = builder.add(builder.mul(sweep.thread, sweep.number("panels")), p)
                x = sweep.at("x", builder.mul(p, integer(self.depth * width)))
                shift = sweep.at("shift", builder.mul(p, integer(width)))
                sums = sweep.at("sums", builder.mul(own, integer(width)))
                d_x = sweep.at("d_x", builder.mul(own, integer(features * width)))
                e, e_by_words = (
                    sweep.exponentials("e", start, p),
                    sweep.exponentials("e_by_words", start, p),
                )

                def tile(code: ir.Function, k: ir.Value) -> None:
                    w = offset(builder, weight, builder.mul(k, integer(self.depth)))
                    place = builder.mul(k, integer(self.places))
                    to = [offset(builder, at, place) for at in (e, e_by_words)]
                    b = offset(builder, bias, k)
                    builder.call(code, [w, b, x, shift, *to, sums])

                sweep.over_words(count, lambda k: tile(big, k), lambda k: tile(small, k))
                for code, first, tiles in feature_tiles:
                    with loop(builder, 0, tiles) as t:
                        f = builder.add(builder.mul(t, integer(self.rows)), integer(first))
                        to = offset(builder, d_x, builder.mul(f, integer(width)))
                        builder.call(code, [offset(builder, by_words, f), e_by_words, words, to])
        builder.ret_void()

    def gradients(self, function: ir.Function) -> None:
        columns = range(0, self.features + 1, self.width)
        big = [self.word_tile(self.rows, c) for c in columns]
        small = [self.word_tile(self.together, c) for c in columns]
        sweep = _Sweep(function, self)
        builder, width = sweep.builder, self.width
        panels = sweep.number("panels")
        group_size = builder.mul(panels, integer(self.places * width))
        with loop(builder, sweep.first, sweep.stop, self.block) as start:
            count = sweep.least(integer(self.block), builder.sub(sweep.stop, start))
            e = sweep.exponentials("e", start, integer(0))

            def tile(codes: list[ir.Function], k: ir.Value) -> None:
                word = builder.add(start, k)
                e_tile = offset(builder, e, builder.mul(k, integer(self.places)))
                d_weight = sweep.at("d_weight", builder.mul(word, integer(self.features)))
                d_bias = sweep.at("d_bias", word)
                for n, code in enumerate(codes):
                    y = sweep.at("y", builder.mul(group_size, integer(n)))
                    adds = sweep.number("adds")
                    builder.call(code, [e_tile, panels, y, d_weight, d_bias, adds])

            sweep.over_words(count, lambda k: tile(big, k), lambda k: tile(small, k))
        builder.ret_void()


class _Sweep:
    """One thread's words: whole blocks of them, and the last thread's rest."""

    def __init__(self, function: ir.Function, emitter: _Emitter) -> None:
        self.arguments, self.thread, threads = function.args
        self.builder = builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.emitter = emitter
        self.loaded = {name: self._load(name) for name in ARGUMENTS}
        words, block = self.number("words"), integer(emitter.block)
        blocks = builder.sdiv(builder.add(words, integer(emitter.block - 1)), block)
        after = builder.add(self.thread, integer(1))
        share = [builder.sdiv(builder.mul(blocks, t), threads) for t in (self.thread, after)]
        self.first, stop = (builder.mul(s, block) for s in share)
        self.stop = self.least(stop, words)

    def _load(self, name: str) -> ir.Value:
        slot = self.builder.gep(self.arguments, [integer(ARGUMENTS.index(name))], source_etype=I64)
        return self.builder.load(slot, typ=I64, align=8)

    def number(self, name: str) -> ir.Value:
        return self.loaded[name]

    def at(self, name: str, elements: ir.Value) -> ir.Value:
        """The address of an element of an array."""
        return offset(self.builder, self.builder.inttoptr(self.loaded[name], POINTER), elements)

    def least(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def exponentials(self, name: str, start: ir.Value, panel: ir.Value) -> ir.Value:
        """The address of e for the block of words that begins at `start` and a panel of rows."""
        builder = self.builder
        before = builder.mul(start, self.number("panels"))
        words = builder.add(before, builder.mul(panel, integer(self.emitter.block)))
        return self.at(name, builder.mul(words, integer(self.emitter.places)))

    def over_words(self, count, many, few) -> None:  # type: ignore[no-untyped-def]
        """`many(k)` for each whole tile of words k of a block, `few(k)` for each word (or couple)
        that is left."""
        builder, rows = self.builder, integer(self.emitter.rows)
        whole = builder.mul(builder.sdiv(count, rows), rows)
        with loop(builder, 0, whole, self.emitter.rows) as k:
            many(k)
        with loop(builder, whole, count, self.emitter.together) as k:
            few(k)
