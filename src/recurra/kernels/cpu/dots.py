"""Products of a weight, row after row as it lies, and one vector: what a step of a stream needs."""

from llvmlite import ir

from recurra.kernels.cpu.flow import loop
from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.vector import I64, POINTER, Vectors, integer, offset

# Rows at once: as many sums as keep two multipliers of four steps' latency busy.
ROWS = 8
_NAME = "dot_products"


def dot_products(module: ir.Module, host: Host) -> ir.Function:
    """(a, rows, depth, c, count): c[i] = Σ_k a[k] rows[i·depth + k] for i below count."""
    if _NAME in module.globals:
        return module.globals[_NAME]
    kinds = [POINTER, POINTER, I64, POINTER, I64]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), _NAME)
    function.linkage = "internal"
    function.attributes.add("noinline")
    a, rows, depth, c, count = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    v = Vectors(builder, host)
    slots = [builder.alloca(v.type) for _ in range(ROWS)]
    whole = builder.and_(count, integer(-ROWS))
    for start, stop, together in ((integer(0), whole, ROWS), (whole, count, 1)):
        with loop(builder, start, stop, together) as i:
            first = offset(builder, rows, builder.mul(i, depth))
            _dots(v, a, first, depth, slots[:together])
            for n, slot in enumerate(slots[:together]):
                total = v.total(builder.load(slot, typ=v.type))
                builder.store(total, offset(builder, c, builder.add(i, integer(n))), align=4)
    builder.ret_void()
    return function


def _dots(v: Vectors, a: ir.Value, rows: ir.Value, depth: ir.Value, slots: list[ir.Value]) -> None:
    """Each slot's lanes are sums over every lanes-th k of a and its row."""
    builder = v.builder
    for slot in slots:
        builder.store(v.constant(0.0), slot)
    starts = [offset(builder, rows, builder.mul(integer(n), depth)) for n in range(len(slots))]

    def add(k: ir.Value, mask: ir.Value | None) -> None:
        vector = v.load(offset(builder, a, k), mask)
        for row, slot in zip(starts, slots, strict=True):
            column = v.load(offset(builder, row, k), mask)
            builder.store(v.fused(vector, column, builder.load(slot, typ=v.type)), slot)

    whole = builder.and_(depth, integer(-v.lanes))
    with loop(builder, 0, whole, v.lanes) as k:
        add(k, None)
    with builder.if_then(builder.icmp_signed("<", whole, depth)):
        add(whole, v.mask_below(builder.sub(depth, whole)))
