"""a b^T on a GPU: exact BF16 operands or FP32 ones, FP32 sums, tensor scales in the epilogue.

Tiles and the split of the contraction axis depend on a member's own shape and never on how many members there are, so a
member gets the same bits in any pack (library products choose their algorithm by the batch).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MOST = (1 << 16) - 1
"""Stacked operands of one launch: programs on the third axis of a grid. In attention there are more: the samples and
heads of all members."""
_LONG = 1024
"""Elements of the contraction axis that one program sums where there are too few tiles otherwise."""


class MatmulTile(NamedTuple):
    """Rows, columns and depth of a program's step; warps; stages of its pipeline."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


def contract(x: Tensor, y: Tensor, alpha_x: Tensor | None = None, alpha_y: Tensor | None = None) -> Tensor:
    """x [E, M, K], y [E, N, K], both BF16 or both FP32, any strides -> x y^T float32 [E, M, N], times the scales.

    ``alpha_x`` and ``alpha_y``: float32, an element for each of the E products; None: 1.
    """
    from dse.kernels.device import matmul as device

    (members, rows, depth), columns = x.shape, y.shape[1]
    if members > MOST:
        some = (slice(start, start + MOST) for start in range(0, members, MOST))
        scales = [None if s is None else s.flatten() for s in (alpha_x, alpha_y)]
        return torch.cat([contract(x[at], y[at], *(None if s is None else s[at] for s in scales)) for at in some])
    out = torch.empty(members, rows, columns, dtype=torch.float32, device=x.device)
    if 0 in (members, rows, columns):
        return out
    wide = x.dtype == torch.float32
    tile, parts = plan_wide(rows, columns, depth) if wide else plan(rows, columns, depth)
    share = -(-depth // parts)
    share = -(-share // tile.k) * tile.k
    parts = max(1, -(-depth // share))
    scales = [s.reshape(-1) for s in (alpha_x, alpha_y) if s is not None]
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


def plan(rows: int, columns: int, depth: int) -> tuple[MatmulTile, int]:
    """The tile for one member's shape, and into how many parts its contraction axis is split."""
    m, n = 128 if rows > 64 else 64, 128 if columns > 64 else 64
    warps = 8 if m * n == 128 * 128 else 4
    if -(-rows // m) * -(-columns // n) < 8 and depth >= 2 * _LONG:
        return MatmulTile(m, n, 32, warps, 4), depth // _LONG
    return MatmulTile(m, n, 64 if depth > 32 else 32, warps, 3), 1


def plan_wide(rows: int, columns: int, depth: int) -> tuple[MatmulTile, int]:
    """The same for FP32 operands, which the tensor cores do not take."""
    m, n = 64 if rows > 32 else 32, 64 if columns > 32 else 32
    few = -(-rows // m) * -(-columns // n) < 8
    return MatmulTile(m, n, 16, 4, 3), depth // _LONG if few and depth >= 2 * _LONG else 1
