"""Vector arithmetic in LLVM code: each of the graph's operations on one vector of units.

Functions are accurate to a few units in the last place (relative error below 1e-6) over the whole
range, near zero too, and pass NaN on; sigmoid stays at e^-87 below -87. exp is 2^n·e^r with
|r| ≤ ln2/2 and e^r = 1 + r + r²·q(r), q the polynomial with the least relative error of e^r, 3e-9;
that of log is Moshier's for single precision, as in Cephes. tanh is expm1(2a) / (expm1(2a) + 2).
"""

import struct
from collections.abc import Callable

from llvmlite import ir

from recurra.kernels.cpu.host import BFLOAT16, HALVES, Host

F32, I1, I8, I16, I32, I64 = (
    ir.FloatType(),
    ir.IntType(1),
    ir.IntType(8),
    ir.IntType(16),
    ir.IntType(32),
    ir.IntType(64),
)
POINTER = ir.PointerType()
# a·b + c may become one operation; nothing else may change, so NaN and infinity keep their meaning
FLAGS = ("contract", "nsz")
LOG2E, LN2 = 1.44269504088896341, (0.69314718055994531,)
LN2_PARTS = LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4  # the first times n is exact
EXP_COEFFICIENTS = (
    1.3814598787576e-3,
    8.3687165752053e-3,
    4.1668388992548e-2,
    1.6666521131992e-1,
    4.9999994039536e-1,
)
LOG_COEFFICIENTS = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
ROUND = 12582912.0  # 1.5·2^23: adding it leaves the nearest whole number in the low bits


def number(value: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def integer(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def offset(builder: ir.IRBuilder, base: ir.Value, elements: ir.Value) -> ir.Value:
    """The address of a float32 some elements after another."""
    return builder.gep(base, [elements], source_etype=F32)


def declare(builder: ir.IRBuilder, name: str, result: ir.Type, args: list[ir.Type]) -> ir.Function:
    """One of LLVM's own functions."""
    module = builder.module
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(result, args), name)


def prefetch(builder: ir.IRBuilder, address: ir.Value, *, nearness: int = 2) -> None:
    """Ask for the cache line, to read: 2 into the core's own second cache, 3 into its first."""
    function = declare(builder, "llvm.prefetch.p0", ir.VoidType(), [POINTER, I32, I32, I32])
    builder.call(function, [address, *(ir.Constant(I32, n) for n in (0, nearness, 1))])


class Vectors:
    """Writes the arithmetic of one vector of float32 lanes at the builder's position."""

    def __init__(self, builder: ir.IRBuilder, host: Host) -> None:
        self.builder, self.lanes, self.rounds_once = builder, host.lanes, host.rounds_once
        self.type = ir.VectorType(F32, host.lanes)
        self.int_type = ir.VectorType(I32, host.lanes)
        self.mask_type = ir.VectorType(I1, host.lanes)

    # -- constants, memory ------------------------------------------------------------------------

    def constant(self, value: float) -> ir.Constant:
        return ir.Constant(self.type, [number(value)] * self.lanes)

    def whole(self, value: int) -> ir.Constant:
        return ir.Constant(self.int_type, [value] * self.lanes)

    def spread(self, scalar: ir.Value) -> ir.Value:
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self.builder.shuffle_vector(first, undefined, self.whole(0))

    def load(self, address: ir.Value, mask: ir.Value | None = None) -> ir.Value:
        if mask is None:
            return self.builder.load(address, typ=self.type, align=4)
        name = f"llvm.masked.load.v{self.lanes}f32.p0"
        function = self._declare(name, self.type, [POINTER, I32, self.mask_type, self.type])
        zero = self.constant(0.0)
        return self.builder.call(function, [address, ir.Constant(I32, 4), mask, zero])

    def prefetch(self, address: ir.Value, *, nearness: int = 2) -> None:
        """Ask for the cache line, to read: 2 into the core's own second cache, 3 into its first."""
        prefetch(self.builder, address, nearness=nearness)

    def store(self, value: ir.Value, address: ir.Value, mask: ir.Value | None = None) -> None:
        if mask is None:
            self.builder.store(value, address, align=4)
            return
        name = f"llvm.masked.store.v{self.lanes}f32.p0"
        function = self._declare(name, ir.VoidType(), [self.type, POINTER, I32, self.mask_type])
        self.builder.call(function, [value, address, ir.Constant(I32, 4), mask])

    def mask_below(self, count: ir.Value) -> ir.Value:
        """Lanes whose number is below a count."""
        lanes = ir.Constant(self.int_type, list(range(self.lanes)))
        small = self.builder.trunc(count, I32)
        undefined = ir.Constant(self.int_type, ir.Undefined)
        first = self.builder.insert_element(undefined, small, ir.Constant(I32, 0))
        every = self.builder.shuffle_vector(first, undefined, self.whole(0))
        return self.builder.icmp_signed("<", lanes, every)

    def _declare(self, name: str, result: ir.Type, args: list[ir.Type]) -> ir.Function:
        return declare(self.builder, name, result, args)

    def intrinsic(self, name: str, *args: ir.Value) -> ir.Value:
        full = f"llvm.{name}.v{self.lanes}f32"
        return self.builder.call(self._declare(full, self.type, [self.type] * len(args)), args)

    def transposed(self, rows: list[ir.Value]) -> list[ir.Value]:
        """Columns of as many vectors as one has lanes.

        Blocks off the diagonal change places: of one number, then of two, then of four …
        """
        build, lanes = self.builder, range(self.lanes)
        size = 1
        while size < self.lanes:
            low = [j if not j & size else self.lanes + j - size for j in lanes]
            high = [j + size if not j & size else self.lanes + j for j in lanes]
            masks = [ir.Constant(self.int_type, places) for places in (low, high)]
            moved = list(rows)
            for i in lanes:
                if not i & size:
                    pair = rows[i], rows[i + size]
                    moved[i], moved[i + size] = (build.shuffle_vector(*pair, m) for m in masks)
            rows, size = moved, 2 * size
        return rows

    # -- couples: two numbers of 16 bits in the place of one float32 ------------------------------

    def couples(self, low: ir.Value, high: ir.Value, *, parts: int) -> list[ir.Value]:
        """Lane by lane, one vector for each part of the numbers; see `couples`."""
        if parts == HALVES:
            turns = [n for lane in range(self.lanes) for n in (lane, self.lanes + lane)]
            return self._halves(low, high, turns)
        build, found = self.builder, []
        for first, second in zip(self._parts(low, parts), self._parts(high, parts), strict=True):
            bits = build.or_(build.lshr(first, self.whole(16)), second)
            found.append(build.bitcast(bits, self.type))
        return found

    def neighbours(self, first: ir.Value, second: ir.Value, *, parts: int) -> list[ir.Value]:
        """The same of two vectors that lie one after the other, of numbers side by side."""
        if parts == HALVES:
            return self._halves(first, second, list(range(2 * self.lanes)))
        build, halves = self.builder, ir.VectorType(I16, 2 * self.lanes)
        upper = ir.Constant(ir.VectorType(I32, 2 * self.lanes), list(range(1, 4 * self.lanes, 2)))
        found = []
        for pair in zip(self._parts(first, parts), self._parts(second, parts), strict=True):
            bits = build.shuffle_vector(*(build.bitcast(part, halves) for part in pair), upper)
            found.append(build.bitcast(bits, self.type))
        return found

    def _halves(self, first: ir.Value, second: ir.Value, order: list[int]) -> list[ir.Value]:
        """The nearest float16 of two vectors' numbers in this order, and those of what is left."""
        build, kind = self.builder, ir.VectorType(ir.HalfType(), self.lanes)
        places = ir.Constant(ir.VectorType(I32, 2 * self.lanes), order)
        pair, found = [first, second], []
        for _ in range(HALVES):
            nearest = [build.fptrunc(a, kind) for a in pair]
            found.append(build.bitcast(build.shuffle_vector(*nearest, places), self.type))
            pair = [
                build.fsub(a, build.fpext(n, self.type)) for a, n in zip(pair, nearest, strict=True)
            ]
        return found

    def _parts(self, a: ir.Value, parts: int) -> list[ir.Value]:
        """Each lane's nearest bfloat16 as the upper bits; or as many of which it is the sum.

        The latter are cut off, eight binary digits each, which is exact, and takes one operation.
        """
        build = self.builder
        if parts == BFLOAT16:
            halves = ir.VectorType(I16, self.lanes)
            function = self._declare("llvm.x86.avx512bf16.cvtneps2bf16.512", halves, [self.type])
            nearest = build.zext(build.call(function, [a]), self.int_type)
            return [build.shl(nearest, self.whole(16))]
        found = []
        for _ in range(parts):  # of the last part, too: of tiny numbers more is left than a part
            found.append(build.and_(build.bitcast(a, self.int_type), self.whole(-65536)))
            a = build.fsub(a, build.bitcast(found[-1], self.type))
        return found

    def fused_couples(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """Lane by lane, the products of both numbers of a and b, and c; sums in float32."""
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        function = self._declare(name, self.type, [self.type, self.int_type, self.int_type])
        couples = [self.builder.bitcast(v, self.int_type) for v in (a, b)]
        return self.builder.call(function, [c, *couples])

    # -- reductions of a vector to one number -----------------------------------------------------

    def total(self, a: ir.Value) -> ir.Value:
        name = f"llvm.vector.reduce.fadd.v{self.lanes}f32"
        function = self._declare(name, F32, [F32, self.type])
        return self.builder.call(function, [ir.Constant(F32, 0.0), a], fastmath=("reassoc",))

    def largest(self, a: ir.Value) -> ir.Value:
        function = self._declare(f"llvm.vector.reduce.fmaximum.v{self.lanes}f32", F32, [self.type])
        return self.builder.call(function, [a])

    # -- arithmetic -------------------------------------------------------------------------------

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fadd(a, b, flags=FLAGS)

    def sub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fsub(a, b, flags=FLAGS)

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fmul(a, b, flags=FLAGS)

    def div(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fdiv(a, b, flags=("nsz",))

    def neg(self, a: ir.Value) -> ir.Value:
        return self.builder.fneg(a)

    def fused(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        return self.add(self.mul(a, b), c)

    def compare(self, relation: str, a: ir.Value, b: ir.Value) -> ir.Value:
        kind = self.builder.fcmp_unordered if relation == "!=" else self.builder.fcmp_ordered
        return kind(relation, a, b)

    def where(self, mask: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(mask, a, b)

    def maximum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._extreme(">", "maximum", a, b)

    def minimum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._extreme("<", "minimum", a, b)

    def _extreme(self, relation: str, name: str, a: ir.Value, b: ir.Value) -> ir.Value:
        if isinstance(a, ir.Constant):
            a, b = b, a
        if isinstance(b, ir.Constant):  # unordered: a NaN in a is taken, as torch does
            return self.where(self.builder.fcmp_unordered(relation, a, b), a, b)
        return self.intrinsic(name, a, b)

    def clamp(self, a: ir.Value, low: float, high: float) -> ir.Value:
        return self.minimum(self.maximum(a, self.constant(low)), self.constant(high))

    def abs(self, a: ir.Value) -> ir.Value:
        return self.intrinsic("fabs", a)

    def sqrt(self, a: ir.Value) -> ir.Value:
        return self.intrinsic("sqrt", a)

    def rsqrt(self, a: ir.Value) -> ir.Value:
        return self.div(self.constant(1.0), self.sqrt(a))

    def sign(self, a: ir.Value) -> ir.Value:
        zero, one = self.constant(0.0), self.constant(1.0)
        below = self.where(self.compare("<", a, zero), self.constant(-1.0), a)
        return self.where(self.compare(">", a, zero), one, below)

    def polynomial(self, coefficients: tuple[float, ...], a: ir.Value) -> ir.Value:
        value: ir.Value = self.constant(coefficients[0])
        for coefficient in coefficients[1:]:
            value = self.fused(value, a, self.constant(coefficient))
        return value

    # -- functions --------------------------------------------------------------------------------

    def _reduce(self, a: ir.Value, times: float = 1.0) -> tuple[ir.Value, ir.Value, ir.Value]:
        """n·2^23 as whole numbers, r/times, and (e^r - 1) / (r/times), with times·a = n·ln2 + r.

        `times` is a power of two or its negative, so that all that it scales stays exact.
        """
        shifted = self.fused(a, self.constant(times * LOG2E), self.constant(ROUND))
        n = self.builder.fsub(shifted, self.constant(ROUND))
        r = a
        for part in LN2 if self.rounds_once else LN2_PARTS:
            r = self.fused(n, self.constant(-part / times), r)
        power = self.builder.shl(self.builder.bitcast(shifted, self.int_type), self.whole(23))
        highest = len(EXP_COEFFICIENTS) + 1
        scaled = [c * times ** (highest - k) for k, c in enumerate(EXP_COEFFICIENTS)]
        return power, r, self.polynomial((*scaled, times), r)

    def _scale(self, power: ir.Value) -> ir.Value:
        """2^n of n·2^23, for -126 ≤ n ≤ 127."""
        one = self.builder.bitcast(self.constant(1.0), self.int_type)
        return self.builder.bitcast(self.builder.add(power, one), self.type)

    def _exp(self, a: ir.Value) -> ir.Value:
        """exp for -87 ≤ a ≤ 88.72; the ends beyond."""
        power, r, slope = self._reduce(self.clamp(a, -87.0, 88.7228))
        bits = self.builder.bitcast(self.fused(slope, r, self.constant(1.0)), self.int_type)
        return self.builder.bitcast(self.builder.add(bits, power), self.type)

    def exp(self, a: ir.Value) -> ir.Value:
        small = self.compare("<", a, self.constant(-87.3))
        large = self.compare(">", a, self.constant(88.7228))
        value = self.where(small, self.constant(0.0), self._exp(a))
        return self.where(large, self.constant(float("inf")), value)

    def _expm1(self, a: ir.Value, times: float = 1.0) -> ir.Value:
        """expm1 of times·a; see `_reduce`."""
        power, r, slope = self._reduce(a, times)
        scale = self._scale(power)
        return self.fused(scale, self.mul(slope, r), self.sub(scale, self.constant(1.0)))

    def expm1(self, a: ir.Value) -> ir.Value:
        large = self.compare(">", a, self.constant(88.3))
        value = self._expm1(self.clamp(a, -87.0, 88.3))
        return self.where(large, self.constant(float("inf")), value)

    def sigmoid(self, a: ir.Value) -> ir.Value:
        one = self.constant(1.0)
        power, r, slope = self._reduce(self.clamp(a, -87.0, 87.0), -1.0)
        below = self.fused(self._scale(power), self.fused(slope, r, one), one)
        return self.div(one, below)

    def tanh(self, a: ir.Value) -> ir.Value:
        value = self._expm1(self.clamp(a, -9.1, 9.1), 2.0)
        return self.div(value, self.add(value, self.constant(2.0)))

    def log(self, a: ir.Value) -> ir.Value:
        build, one = self.builder, self.constant(1.0)
        bits = build.bitcast(a, self.int_type)
        # mantissa in [√½, √2): the bits above those of √½ count the powers of two
        moved = build.sub(bits, self.whole(0x3F3504F3))
        n = build.ashr(moved, self.whole(23))
        mantissa = build.bitcast(build.sub(bits, build.shl(n, self.whole(23))), self.type)
        r = self.sub(mantissa, one)
        n = build.sitofp(n, self.type)
        square = self.mul(r, r)
        tail = self.mul(self.polynomial(LOG_COEFFICIENTS, r), self.mul(square, r))
        tail = self.fused(n, self.constant(LN2_LOW), tail)
        tail = self.fused(square, self.constant(-0.5), tail)
        value = self.fused(n, self.constant(LN2_HIGH), self.add(r, tail))
        infinity, zero = self.constant(float("inf")), self.constant(0.0)
        value = self.where(self.compare("==", a, infinity), infinity, value)
        value = self.where(self.compare("==", a, zero), self.constant(float("-inf")), value)
        is_bad = build.fcmp_unordered("<", a, zero)
        return self.where(is_bad, self.constant(float("nan")), value)

    def log1p(self, a: ir.Value) -> ir.Value:
        one, infinity = self.constant(1.0), self.constant(float("inf"))
        near = self.add(one, a)
        lost = self.sub(a, self.sub(near, one))
        value = self.add(self.log(near), self.div(lost, near))
        special = self.compare("==", a, infinity)
        value = self.where(special, infinity, value)
        return self.where(self.compare("==", near, self.constant(0.0)), self.log(near), value)

    # -- by the graph's names ---------------------------------------------------------------------

    def apply(self, op: str, *args: ir.Value) -> ir.Value:
        """One of the graph's operations."""
        relations = {"eq": "==", "ne": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
        if op in relations:
            return self.compare(relations[op], *args)
        if op == "not":
            return self.builder.not_(*args)
        if op in ("and", "or"):
            return getattr(self.builder, f"{op}_")(*args)
        operation: Callable[..., ir.Value] = getattr(self, op)
        return operation(*args)
