"""a b^T on a GPU: exact BF16 operands or FP32 ones, FP32 sums, tensor scales in the epilogue.

Tiles and the split of the contraction axis depend on a member's own shape and never on how many members there are, so a
member gets the same bits in any pack (library products choose their algorithm by the batch).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dse.quantizer import Quantized

MOST = (1 << 16) - 1
"""Stacked operands of one launch: programs on the third axis of a grid. In attention there are more: the samples and
heads of all members."""
_LONG = 1024
"""Elements of the contraction axis that one program sums where there are too few tiles otherwise."""


class Tile(NamedTuple):
    """Rows, columns and depth of a program's step; warps; stages of its pipeline."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


def contract(a: Quantized, b: Quantized) -> Tensor:
    """a [E, M, K], b [E, N, K], both BF16 or both FP32, any strides -> float32 [E, M, N], times alpha_a * alpha_b."""
    from dse.kernels.device import product as device

    x, y = a.values, b.values
    (members, rows, depth), columns = x.shape, y.shape[1]
    if members > MOST:
        cuts = range(0, members, MOST)
        return torch.cat([contract(*(_some(operand, at) for operand in (a, b))) for at in cuts])
    out = torch.empty(members, rows, columns, dtype=torch.float32, device=x.device)
    if 0 in (members, rows, columns):
        return out
    wide = x.dtype == torch.float32
    tile, parts = plan_wide(rows, columns, depth) if wide else plan(rows, columns, depth)
    share = -(-depth // parts)
    share = -(-share // tile.k) * tile.k
    parts = max(1, -(-depth // share))
    scales = [s.reshape(-1) for s in (a.alpha, b.alpha) if s is not None]
    first, second = [*scales, out, out][:2]
    target = out if parts == 1 else torch.empty(parts, *out.shape, dtype=torch.float32, device=x.device)
    stride = (0, *out.stride()) if parts == 1 else target.stride()
    tiles = -(-rows // tile.m) * -(-columns // tile.n)
    device.product_kernel[(tiles, parts, members)](
        x, *x.stride(), y, *y.stride(), target, *stride, first, second, rows, columns, depth, share,
        BM=tile.m, BN=tile.n, BK=tile.k, SCALES=len(scales) if parts == 1 else 0, EVEN=share * parts == depth,
        IEEE=wide, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    if parts > 1:
        size, block = out.numel(), 1024
        device.sum_kernel[(-(-size // block),)](
            target, out, first, second, size, rows * columns, PARTS=parts, SCALES=len(scales), B=block
        )
    return out


def _some(operand: Quantized, start: int) -> Quantized:
    """Those that one launch takes, from ``start`` on."""
    at, alpha = slice(start, start + MOST), operand.alpha
    return Quantized(operand.values[at], None if alpha is None else alpha.flatten()[at])


def plan(rows: int, columns: int, depth: int) -> tuple[Tile, int]:
    """The tile for one member's shape, and into how many parts its contraction axis is split."""
    m, n = 128 if rows > 64 else 64, 128 if columns > 64 else 64
    warps = 8 if m * n == 128 * 128 else 4
    if -(-rows // m) * -(-columns // n) < 8 and depth >= 2 * _LONG:
        return Tile(m, n, 32, warps, 4), depth // _LONG
    return Tile(m, n, 64 if depth > 32 else 32, warps, 3), 1


def plan_wide(rows: int, columns: int, depth: int) -> tuple[Tile, int]:
    """The same for FP32 operands, which the tensor cores do not take."""
    m, n = 64 if rows > 32 else 32, 64 if columns > 32 else 32
    few = -(-rows // m) * -(-columns // n) < 8
    return Tile(m, n, 16, 4, 3), depth // _LONG if few and depth >= 2 * _LONG else 1
