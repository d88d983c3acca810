"""Couples: two neighbouring bfloat16 numbers in the place of one float32.

A processor that multiplies bfloat16 takes two products of each lane at once, and adds them up in
float32. So operands come in couples of neighbouring k; where a depth is odd, a zero completes it.
Everything that only moves numbers (packing, strides, addresses) moves couples as it moves float32.
"""

import torch
from llvmlite import ir
from torch import Tensor

from recurra.kernels.cpu.flow import loop
from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.vector import Vectors, integer, offset


def along_columns(rows: Tensor) -> Tensor:
    """(…, depth) as (…, ⌈depth/2⌉) couples of neighbouring columns."""
    *others, depth = rows.shape
    halves = torch.empty(*others, depth + depth % 2, dtype=torch.bfloat16)
    halves[..., :depth], halves[..., depth:] = rows, 0
    return halves.view(torch.float32)


def row_size(depth: int, host: Host) -> int:
    """Couples that a row needs which `round_rows` writes: whole vectors of them."""
    return -(-depth // (2 * host.lanes)) * host.lanes


def round_rows(
    v: Vectors,
    a: ir.Value,
    lda: ir.Value,
    count: ir.Value,
    depth: ir.Value,
    target: ir.Value,
    stride: ir.Value,
) -> None:
    """Write `count` float32 rows, `lda` apart, as couples, `stride` couples apart.

    Whole vectors are written, so `stride` is at least `row_size(depth)`.
    """
    builder, lanes = v.builder, v.lanes
    whole = builder.and_(depth, integer(-2 * lanes))
    with loop(builder, 0, count) as r:
        row = offset(builder, a, builder.mul(r, lda))
        to = offset(builder, target, builder.mul(r, stride))

        def write(k: ir.Value, *, is_masked: bool) -> None:
            halves = []
            for first in (k, builder.add(k, integer(lanes))):
                mask = v.mask_below(builder.sub(depth, first)) if is_masked else None
                halves.append(v.load(offset(builder, row, first), mask))
            v.store(v.neighbours(*halves), offset(builder, to, builder.sdiv(k, integer(2))))

        with loop(builder, 0, whole, 2 * lanes) as k:
            write(k, is_masked=False)
        with builder.if_then(builder.icmp_signed("<", whole, depth)):
            write(whole, is_masked=True)
