"""a b^T on a GPU: exact BF16 operands or FP32 ones, FP32 sums, tensor scales in the epilogue.

Tiles and the split of the contraction axis depend on a member's own shape and never on how many members there are, so a
member gets the same bits in any pack (library products choose their algorithm by the batch).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dse.kernels.availability import interpreted

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


def contract(
    x: Tensor,
    y: Tensor,
    alpha_x: Tensor | None = None,
    alpha_y: Tensor | None = None,
    bias: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """x [E, M, K], y [E, N, K], both BF16 or both FP32, any strides -> x y^T [E, M, N], times scales, plus bias.

    ``alpha_x`` and ``alpha_y``: float32, an element for each of the E products; None: 1. ``bias``: float32 [E, N],
    added in FP32 after the scales. ``dtype``: float32, or bfloat16 to round the result once, to nearest even.
    """
    from dse.kernels.device import matmul as device

    (members, rows, depth), columns = x.shape, y.shape[1]
    if members > MOST:
        some = (slice(start, start + MOST) for start in range(0, members, MOST))
        of_members = [None if s is None else s.reshape(members, -1) for s in (alpha_x, alpha_y, bias)]
        parts_of = ((x[at], y[at], *(None if s is None else s[at] for s in of_members)) for at in some)
        return torch.cat([contract(*each, dtype=dtype) for each in parts_of])
    out = torch.empty(members, rows, columns, dtype=dtype, device=x.device)
    if 0 in (members, rows, columns):
        return out
    wide = x.dtype == torch.float32
    tile, parts = plan_wide(rows, columns, depth) if wide else plan(rows, columns, depth)
    share = -(-depth // parts)
    share = -(-share // tile.k) * tile.k
    parts = max(1, -(-depth // share)) if share else 1
    epilogue = Epilogue.of(alpha_x, alpha_y, bias, out)
    apart = parts > 1 or (
        wide and bias is not None
    )  # FP32 sums need fused multiply-adds, the epilogue must not have any
    target = torch.empty(parts, *out.shape, dtype=torch.float32, device=x.device) if apart else out
    stride = target.stride() if apart else (0, *out.stride())
    here = Epilogue(*epilogue[:4], 0, False) if apart else epilogue
    tiles = -(-rows // tile.m) * -(-columns // tile.n)
    device.product_kernel[(tiles, parts, members)](
        x, *x.stride(), y, *y.stride(), target, *stride, *here[:4], rows, columns, depth, share,
        BM=tile.m, BN=tile.n, BK=tile.k, SCALES=here.scales, BIAS=here.biased, EVEN=share * parts == depth,
        IEEE=wide, INTERPRET=interpreted(), num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=wide,
    )  # fmt: skip
    if apart:
        size, block = out.numel(), 1024
        device.sum_kernel[(-(-size // block),)](
            target, out, *epilogue[:4], size, rows * columns, columns,
            PARTS=parts, SCALES=epilogue.scales, BIAS=epilogue.biased, B=block, INTERPRET=interpreted(),
            enable_fp_fusion=False,
        )  # fmt: skip
    return out


class Epilogue(NamedTuple):
    """What happens to the sums: how many scales there are, whether a bias is added; absent ones are any tensor."""

    alpha: Tensor
    alpha2: Tensor
    bias: Tensor
    stride: int
    scales: int
    biased: bool

    @classmethod
    def of(cls, alpha_x: Tensor | None, alpha_y: Tensor | None, bias: Tensor | None, other: Tensor) -> Epilogue:
        scales = [s.reshape(-1) for s in (alpha_x, alpha_y) if s is not None]
        first, second = [*scales, other, other][:2]
        if bias is None:
            return cls(first, second, other, 0, len(scales), False)
        bias = bias if bias.stride(-1) == 1 else bias.contiguous()
        return cls(first, second, bias, bias.stride(0), len(scales), True)


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
