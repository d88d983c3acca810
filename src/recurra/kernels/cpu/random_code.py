"""LLVM code that draws random masks: Philox4x32-10, counters in the lanes of vectors.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011), section 4.3:
four words of a counter and two of a key become four random words by ten rounds of

    c₀, c₁, c₂, c₃ = high(M₁·c₂) ⊕ c₁ ⊕ k₀, low(M₁·c₂), high(M₀·c₀) ⊕ c₃ ⊕ k₁, low(M₀·c₀)

with k₀, k₁ going on by W₀, W₁ after each. A mask's number depends on the key and on its own place
only, so that it is the same however many lanes or threads draw it.
"""

from llvmlite import ir

from recurra.kernels.cpu.flow import Arguments, build_entry, ceiling, least, loop
from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.vector import F32, I32, I64, POINTER, Vectors, integer

MULTIPLIERS, STEPS, ROUNDS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 10
# A group is of 16 counters' numbers: eight draws of 16 bits from each, the words' lower halves
# first. Number n of a group is draw n // 16 of counter n mod 16.
COUNTERS, DRAWS = 16, 8
GROUP = COUNTERS * DRAWS
# `value` where a draw is below `threshold` (0 to 2¹⁶), else 0. `value` is a float32's bits.
MASK_ARGUMENTS = (
    "count", "target", "threshold", "value", "key0", "key1", "thread_number", "thread_count",
)  # fmt: skip


def build_random(host: Host) -> ir.Module:
    """A module with `mask(arguments, thread, threads)`, and its entry for a team."""
    module = ir.Module("random")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, I64, I64]), "mask")
    given = Arguments(function, MASK_ARGUMENTS)
    builder, v = given.builder, Vectors(given.builder, host)
    whole = builder.sdiv(given["count"], integer(GROUP))
    first, stop = given.share(ceiling(builder, given["count"], GROUP))
    with loop(builder, first, least(builder, stop, whole)) as group:
        _draw(v, given, group, is_whole=True)
    has_part = builder.icmp_signed("<", whole, stop)
    with builder.if_then(has_part):  # none but the last thread has it
        _draw(v, given, whole, is_whole=False)
    builder.ret_void()
    build_entry(module, function, MASK_ARGUMENTS)
    return module


def _draw(v: Vectors, given: Arguments, group: ir.Value, *, is_whole: bool) -> None:
    builder = v.builder
    threshold, *keys = (_spread(v, given[name]) for name in ("threshold", "key0", "key1"))
    value = v.spread(builder.bitcast(builder.trunc(given["value"], I32), F32))
    counter, place = builder.mul(group, integer(COUNTERS)), builder.mul(group, integer(GROUP))
    high = _spread(v, builder.lshr(counter, integer(32)))
    for lane in range(0, COUNTERS, v.lanes):
        lanes = ir.Constant(v.int_type, list(range(lane, lane + v.lanes)))
        low = builder.add(_spread(v, counter), lanes)
        words = _philox(v, [low, high, v.whole(0), v.whole(0)], keys)
        draws = [builder.and_(word, v.whole(0xFFFF)) for word in words]
        draws += [builder.lshr(word, v.whole(16)) for word in words]
        for number, draw in enumerate(draws):
            result = builder.select(
                builder.icmp_unsigned("<", draw, threshold), value, v.constant(0.0)
            )
            at, mask = builder.add(place, integer(COUNTERS * number + lane)), None
            if not is_whole:
                left = least(builder, builder.sub(given["count"], at), integer(v.lanes))
                mask = v.mask_below(left)
            v.store(result, given.at("target", at), mask)


def _philox(v: Vectors, counter: list[ir.Value], keys: list[ir.Value]) -> list[ir.Value]:
    builder, (c0, c1, c2, c3), (k0, k1) = v.builder, counter, keys
    for _ in range(ROUNDS):
        (high0, low0), (high1, low1) = (
            _product(v, c, m) for c, m in zip((c0, c2), MULTIPLIERS, strict=True)
        )
        c0, c1 = builder.xor(builder.xor(high1, c1), k0), low1
        c2, c3 = builder.xor(builder.xor(high0, c3), k1), low0
        k0, k1 = (builder.add(k, v.whole(w)) for k, w in zip((k0, k1), STEPS, strict=True))
    return [c0, c1, c2, c3]


def _product(v: Vectors, a: ir.Value, multiplier: int) -> tuple[ir.Value, ir.Value]:
    """The upper and the lower word of each lane's product."""
    builder, wide = v.builder, ir.VectorType(I64, v.lanes)
    factor, shift = (ir.Constant(wide, [n] * v.lanes) for n in (multiplier, 32))
    product = builder.mul(builder.zext(a, wide), factor)
    return builder.trunc(builder.lshr(product, shift), v.int_type), builder.trunc(
        product, v.int_type
    )


def _spread(v: Vectors, number: ir.Value) -> ir.Value:
    """A 64-bit number's lower word in all lanes."""
    undefined = ir.Constant(v.int_type, ir.Undefined)
    first = v.builder.insert_element(undefined, v.builder.trunc(number, I32), ir.Constant(I32, 0))
    return v.builder.shuffle_vector(first, undefined, v.whole(0))
