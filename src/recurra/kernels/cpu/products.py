"""Products over all steps at once, and weights as the loop's tiles read them."""

import torch
from torch import Tensor


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows @ weight.T + bias, by oneDNN where torch has it: the fastest here by far."""
    if torch._C._has_mkldnn and rows.numel() and weight.numel():
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return product
    return torch.nn.functional.linear(rows, weight, bias)


def sum_of_products(left: Tensor, right: Tensor) -> Tensor:
    """left.T @ right, the sum over rows."""
    return linear(left.t().contiguous(), right.t().contiguous())


def pack(blocks: Tensor, lanes: int) -> Tensor:
    """Weights (blocks, units, depth) as tiles read them.

    Pair after pair of vectors of units, for each block, for each number of the depth, the pair's
    units; the last vector, if it is alone, behind, in the same way.
    """
    count, units, depth = blocks.shape
    vectors = -(-units // lanes)
    padded = torch.nn.functional.pad(blocks, (0, 0, 0, vectors * lanes - units))
    whole = vectors // 2 * 2 * lanes
    parts = []
    for part, width in ((padded[:, :whole], 2 * lanes), (padded[:, whole:], lanes)):
        if part.shape[1]:
            shaped = part.reshape(count, -1, width, depth)
            parts.append(shaped.permute(1, 0, 3, 2).reshape(-1))
    return torch.cat(parts)
