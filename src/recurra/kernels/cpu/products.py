"""Products over all steps at once, and weights as the loop's tiles read them."""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from recurra.kernels.cpu import matrix_sums_code, sums_code
from recurra.kernels.cpu.code import tile_table
from recurra.kernels.cpu.compiler import MachineCode, compile_cached
from recurra.kernels.cpu.couples import packed_depth
from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.packing_code import PACK_ARGUMENTS, TAKE_ARGUMENTS
from recurra.kernels.cpu.products_code import (
    ROW_ARGUMENTS,
    build_products,
    couples_of_rows,
    with_parts,
)
from recurra.kernels.cpu.scratch import WORK, lent, new_numbers, scratch
from recurra.kernels.cpu.threads import team_functions, thread_limit
from recurra.kernels.schedule import Places, Rows

# Below so many multiplications, or numbers to pack, a second thread costs more than it does.
LEAST_PRODUCT, LEAST_PACK = 200_000, 20_000
# Below so many multiplications, oneDNN's call takes longer than another library's whole product.
LEAST_ONEDNN = 1_000_000
# From so many rows and multiplications on, products here are faster than oneDNN's: by 10 to 20 % on
# Zen 3; by 0 to 6 % on Granite Rapids, and by 8 to 50 % with a weight that lies the other way.
LEAST_OWN_ROWS, LEAST_OWN = 64, {8: 4_000_000, 16: LEAST_ONEDNN}
_MOST = max(map(len, (sums_code.SUM_ARGUMENTS, ROW_ARGUMENTS, TAKE_ARGUMENTS, PACK_ARGUMENTS)))
_Values = ctypes.c_int64 * _MOST


def is_own_faster(rows: Tensor, weight: Tensor, host: Host) -> bool:
    """Whether a product is faster here than by oneDNN, though that may know its size already."""
    count, least = rows.shape[0], LEAST_OWN.get(host.lanes)
    return least is not None and count >= LEAST_OWN_ROWS and count * weight.numel() >= least


def library_linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows @ weight.T + bias by oneDNN, where torch has it.

    It prepares itself for each number of rows that it meets.
    """
    if rows.shape[1] == 1:  # a single feature: an outer product, in which libraries are slow
        column = weight[:, 0]
        return rows * column if bias is None else torch.addcmul(bias, rows, column)
    if torch._C._has_mkldnn and rows.shape[0] * weight.numel() >= LEAST_ONEDNN:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return product
    result = rows.new_empty(rows.shape[0], weight.shape[0])
    if bias is None:  # with `out`, autocast leaves the product in float32
        return torch.mm(rows, weight.t(), out=result)
    return torch.addmm(bias, rows, weight.t(), out=result)


def linear(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    host: Host,
    *,
    parts: int = 0,
    memory: Callable[[int, int], Tensor] = new_numbers,
) -> Tensor:
    """rows @ weight.T + bias for a weight (units, depth); see `product_of_rows`."""
    packed = pack(weight, len(weight), host, WORK, parts=parts)
    return product_of_rows(rows, packed, len(weight), bias, host, parts=parts, memory=memory)


def product_of_rows(
    rows: Tensor,
    packed: Tensor,
    units: int,
    bias: Tensor | None,
    host: Host,
    *,
    parts: int = 0,
    memory: Callable[[int, int], Tensor] = new_numbers,
) -> Tensor:
    """rows @ W + bias, summed in float32; rows may lie any distance apart.

    Args:
        rows: (rows, depth), float32, with columns side by side.
        packed: W, (depth, units), by `pack` or `pack_turned`; of couples if there are parts.
        units: of W.
        bias: (units,), float32, or None.
        host: the tiles are for.
        parts: in which to split numbers to couples (see `couples`); 0: not at all.
        memory: gives that for the result.

    Returns:
        (rows, units), each row padded to whole vectors in memory.
    """
    count, depth = rows.shape
    width = -(-units // host.lanes) * host.lanes
    threads = thread_limit() if count * depth * units >= LEAST_PRODUCT else 1
    couples_row, couples_thread = couples_of_rows(host, depth, parts)
    couples = scratch("couples of rows", threads * couples_thread)
    start = _whole_vectors(bias, units, width)
    tiles, _ = tile_table(host, parts)
    result = memory(count, width)
    values = _Values(  # in the order of ROW_ARGUMENTS
        count, depth, units, rows.data_ptr(), rows.stride(0), packed.data_ptr(), start.data_ptr(),
        result.data_ptr(), width, tiles.data_ptr(), couples.data_ptr(), couples_row,
        couples_thread, *team_functions(),
    )  # fmt: skip
    _code(host).run(with_parts("product_of_rows", parts), values, threads)
    return result[:, :units]


def _whole_vectors(bias: Tensor | None, units: int, width: int) -> Tensor:
    """A bias as tiles read it, with zeros behind it."""
    if bias is not None and units == width:
        return bias.contiguous()
    result, given = scratch("bias", width), 0
    if bias is not None:
        bias, given = bias.contiguous(), units
        ctypes.memmove(result.data_ptr(), bias.data_ptr(), 4 * given)
    ctypes.memset(result.data_ptr() + 4 * given, 0, 4 * (width - given))
    return result


def sums_of_products(
    left: Tensor, rights: Sequence[Rows], host: Host, *, parts: int = 0
) -> list[tuple[Tensor, Tensor]]:
    """left.T @ right, the sum over rows, (m, n), for each right; beside it the sum of left's rows.

    Each has memory of its own.

    Args:
        left: (rows, m), columns side by side; read once for all.
        rights: one or two, as many rows.
        host: the code is for.
        parts: in which to split the numbers of products, not those of the sum; see `couples`.
    """
    (rows, m), sizes = left.shape, tuple([right.numbers.shape[-1] for right in rights])
    if not rows or not any(sizes):
        return [(left.new_zeros(m, n), left.sum(0)) for n in sizes]
    results = [(lent(m, n), new_numbers(m)) for n in sizes]
    threads = thread_limit() if rows * m * sum(sizes) >= LEAST_PRODUCT else 1
    if host.uses_units(parts):
        depth = matrix_sums_code.block_depth(rows, m, sizes, parts)
        size = matrix_sums_code.scratch_size(depth, sizes, parts)
        tiles = tile_table(host, parts)[0].data_ptr()
    else:
        size, depth, tiles = sums_code.scratch_size(host, sizes), 0, 0  # it has its own
    panels = scratch(WORK, threads * size)
    operands = []
    for (b, places, first), (c, sums) in zip(rights, results, strict=True):
        b_row = b.stride(-2)
        at, table = b.data_ptr() + 4 * first * b_row, 0 if places is None else places.data_ptr()
        operands += [b.shape[-1], at, b_row, table, c.data_ptr(), c.stride(0), sums.data_ptr()]
    missing = [0, 0, 0, 0, 0, 0, results[0][1].data_ptr()] * (sums_code.OPERANDS - len(rights))
    values = _Values(  # in the order of SUM_ARGUMENTS
        rows, m, left.data_ptr(), left.stride(0), panels.data_ptr(), size, tiles, depth,
        *operands, *missing, *team_functions(),
    )  # fmt: skip
    _code(host).run(with_parts("sums_of_products", parts), values, threads)
    return results


def take_rows(rows: Tensor, places: Tensor | Places, host: Host) -> Tensor:
    """Row after row those that `places` names, zeros where it is below zero.

    Args:
        rows: (…, columns) float32, columns side by side, rows any distance apart.
        places: (count,) int64, below the number of rows.
        host: the code is for.
    """
    count, columns = len(places), rows.shape[-1]
    result = rows.new_empty(count, columns)
    if not rows.numel():
        return result.zero_()
    values = _Values(  # in the order of TAKE_ARGUMENTS
        count, columns, rows.data_ptr(), rows.stride(-2), places.data_ptr(), result.data_ptr(),
        *team_functions(),
    )  # fmt: skip
    _code(host).run("take_rows", values, thread_limit() if count * columns >= LEAST_PACK else 1)
    return result


def pack(
    weight: Tensor, units: int, host: Host, name: str, *, blocks: int = 1, parts: int = 0
) -> Tensor:
    """Blocks of a weight (blocks·units, depth) as tiles read them, in the scratch of this name.

    Pair after pair of vectors of units, for each block, for each number of the depth, or each
    couple, the pair's units; the last vector, if it is alone, behind, in the same way. Missing
    units are zero.

    Args:
        weight: all blocks.
        units: of each.
        host: the tiles are for.
        name: of the scratch.
        blocks: how many.
        parts: in which to split numbers to couples (see `couples`); 0: not at all.
    """
    source, shape = weight.contiguous(), (blocks, units, weight.shape[1])
    return _packed(with_parts("pack_units", parts), source, shape, host, name, parts)


def pack_turned(rows: Tensor, host: Host, name: str, *, parts: int = 0) -> Tensor:
    """One block from (depth, units), for the product the other way; see `pack`."""
    source, (depth, units) = rows.contiguous(), rows.shape
    name_of_code = with_parts("pack_turned", parts)
    return _packed(name_of_code, source, (1, units, depth), host, name, parts)


def along_rows(rows: Tensor, host: Host) -> Tensor:
    """(depth, units) as (⌈depth/2⌉, units) couples of neighbouring rows; see `couples`."""
    depth, units = rows.shape
    source, result = rows.contiguous(), rows.new_empty((depth + 1) // 2, units)
    values = _Values(  # in the order of PACK_ARGUMENTS
        source.data_ptr(), result.data_ptr(), 1, units, depth, *team_functions()
    )
    _code(host).run("couple_rows", values, thread_limit() if rows.numel() >= LEAST_PACK else 1)
    return result


def pack_address(host: Host, parts: int, *, is_turned: bool) -> int:
    """Where the function lies that packs as `pack` or `pack_turned` do."""
    return _code(host).address(with_parts("pack_turned" if is_turned else "pack_units", parts))


def packed_size(blocks: int, units: int, depth: int, host: Host, parts: int) -> int:
    """Numbers of a packed weight."""
    vectors = -(-units // host.lanes)
    return blocks * vectors * host.lanes * packed_depth(depth, host, parts)


def _packed(
    function: str, source: Tensor, shape: tuple[int, int, int], host: Host, name: str, parts: int
) -> Tensor:
    count, units, depth = shape
    size = packed_size(*shape, host, parts)
    target = scratch(name, size)
    values = _Values(  # in the order of PACK_ARGUMENTS
        source.data_ptr(), target.data_ptr(), count, units, depth, *team_functions()
    )
    _code(host).run(function, values, thread_limit() if size >= LEAST_PACK else 1)
    return target


@cache
def _code(host: Host) -> MachineCode:
    return compile_cached("products", "products", lambda: build_products(host), host)
