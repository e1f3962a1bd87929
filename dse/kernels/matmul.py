"""a b^T on a GPU: exact BF16 operands or FP32 ones, FP32 sums, tensor scales in the epilogue.

Tiles and the split of the contraction axis depend on a member's own shape and never on how many members there are, so a
member gets the same bits in any pack (library products choose their algorithm by the batch).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dse.kernels import descriptors, tilings
from dse.kernels.availability import interpreted
from dse.kernels.epilogue import Epilogue
from dse.kernels.tilings import Tiling

MOST = (1 << 16) - 1
"""Stacked operands of one launch: programs on the third axis of a grid. In attention there are more: the samples and
heads of all members."""


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
    (members, rows, _), columns = x.shape, y.shape[1]
    out = torch.empty(members, rows, columns, dtype=dtype, device=x.device)
    if 0 in out.shape:
        return out
    by_descriptors = x.dtype == torch.bfloat16 and tilings.has_descriptors(x.device)
    epilogue, cut = Epilogue.of(alpha_x, alpha_y, bias, out), tiling(x, y, by_descriptors)
    for start in range(0, members, MOST):
        some = slice(start, start + MOST)
        launch(x[some], y[some], epilogue.of_members(some), out[some], cut, by_descriptors)
    return out


def tiling(x: Tensor, y: Tensor, by_descriptors: bool) -> Tiling:
    """How x [E, M, K] times y [E, N, K] is cut."""
    shape = (x.shape[1], y.shape[1], x.shape[2])
    if x.dtype == torch.float32:
        return tilings.wide(*shape)
    if by_descriptors:
        return tilings.described(*shape, tilings.multiprocessors(x.device))
    return tilings.narrow(*shape)


def launch(x: Tensor, y: Tensor, epilogue: Epilogue, out: Tensor, tiling: Tiling, by_descriptors: bool = False) -> None:
    """The product into ``out`` as ``tiling`` says, ``by_descriptors`` where the operands' strides allow it."""
    from dse.kernels.device import matmul as device

    (members, rows, depth), columns, wide = x.shape, y.shape[1], x.dtype == torch.float32
    (share, parts), tile = tiling.share(depth), tiling.tile
    apart = parts > 1 or (wide and epilogue.biased)  # FP32 sums need fused multiply-adds, the epilogue must have none
    target = torch.empty(parts, *out.shape, dtype=torch.float32, device=x.device) if apart else out.unsqueeze(0)
    here = epilogue.none() if apart else epilogue
    if by_descriptors and depth and all(map(descriptors.fits, (x, y, target[0]))):
        descriptors.launch(x, y, target.flatten(0, 1), here, tiling)
    else:
        tiles = -(-rows // tile.m) * -(-columns // tile.n)
        device.product_kernel[(tiles, parts, members)](
            x, *x.stride(), y, *y.stride(), target, *target.stride(), *here[:4], rows, columns, depth, share,
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
