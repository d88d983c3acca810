"""Products over all steps at once, and weights as the loop's tiles read them."""

import ctypes
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from recurra.kernels.cpu.compiler import MachineCode, compile_cached
from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.products_code import (
    PACK_ARGUMENTS,
    SUM_ARGUMENTS,
    build_products,
    scratch_size,
)
from recurra.kernels.cpu.scratch import scratch
from recurra.kernels.cpu.threads import openmp, run_parallel, thread_limit

# Below so many multiplications, or numbers to pack, a second thread costs more than it does.
LEAST_PRODUCT, LEAST_PACK = 200_000, 20_000
_Run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows @ weight.T + bias, by oneDNN where torch has it: the fastest here by far."""
    if torch._C._has_mkldnn and rows.numel() and weight.numel():
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return product
    return torch.nn.functional.linear(rows, weight, bias)


def sum_of_products(left: Tensor, right: Tensor, host: Host) -> tuple[Tensor, Tensor]:
    """left.T @ right, the sum over rows, (m, n); and the sum of left's rows, (m,).

    Both are (rows, …) with columns side by side; rows may lie any distance apart.
    """
    (rows, m), n = left.shape, right.shape[1]
    result, sums = left.new_empty(m, n), left.new_zeros(m)
    if not rows or not n:
        return result.zero_(), left.sum(0)
    threads = thread_limit() if rows * m * n >= LEAST_PRODUCT else 1
    size = scratch_size(host, n)
    panels = scratch("panels", threads * size)
    known = {"rows": rows, "m": m, "n": n, "a": left.data_ptr(), "a_row": left.stride(0)}
    known |= {"b": right.data_ptr(), "b_row": right.stride(0), "c": result.data_ptr(), "c_row": n}
    known |= {"sums": sums.data_ptr(), "scratch": panels.data_ptr(), "scratch_thread": size}
    _run(_code(host), "sum_of_products", SUM_ARGUMENTS, known, threads)
    return result, sums


def pack(blocks: Tensor, host: Host, name: str) -> Tensor:
    """Weights (blocks, units, depth) as tiles read them, in the scratch of this name.

    Pair after pair of vectors of units, for each block, for each number of the depth, the pair's
    units; the last vector, if it is alone, behind, in the same way. Missing units are zero.
    """
    count, units, depth = blocks.shape
    return _packed("pack_units", blocks.contiguous(), (count, units, depth), host, name)


def pack_turned(rows: Tensor, host: Host, name: str) -> Tensor:
    """One block from (depth, units), for the product the other way; see `pack`."""
    depth, units = rows.shape
    return _packed("pack_turned", rows.contiguous(), (1, units, depth), host, name)


def _packed(
    function: str, source: Tensor, shape: tuple[int, int, int], host: Host, name: str
) -> Tensor:
    count, units, depth = shape
    target = scratch(f"packed {name}", count * -(-units // host.lanes) * host.lanes * depth)
    threads = thread_limit() if target.numel() >= LEAST_PACK else 1
    known = {"source": source.data_ptr(), "target": target.data_ptr()}
    known |= {"blocks": count, "units": units, "depth": depth}
    _run(_code(host), function, PACK_ARGUMENTS, known, threads)
    return target


def _run(
    code: MachineCode, name: str, names: tuple[str, ...], known: Mapping[str, int], threads: int
) -> None:
    known = {**known, **openmp()}
    values = (ctypes.c_int64 * len(names))(*(known[key] for key in names))
    if threads > 1:
        run_parallel(code.address(f"{name}_entry"), ctypes.addressof(values), threads)
    else:
        _Run(code.address(name))(ctypes.addressof(values), 0, 1)


@cache
def _code(host: Host) -> MachineCode:
    return compile_cached("products", "products", lambda: build_products(host), host)
