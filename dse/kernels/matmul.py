"""a b^T on a GPU: exact BF16 operands or FP32 ones, FP32 sums, tensor scales in the epilogue.

GPUs with tensor descriptors multiply FP32 operands as sums of three BF16 numbers, others in FP32.

Tiles and the split of the contraction axis depend on a member's own shape and never on how many members there are, so a
member gets the same bits in any pack (library products choose their algorithm by the batch).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dse.kernels import descriptors, tilings
from dse.kernels.availability import interpreted
from dse.kernels.epilogue import Epilogue
from dse.kernels.split import split
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
    by_descriptors = tilings.has_descriptors(x.device) and descriptors.multiplies(x, y)
    epilogue, cut = Epilogue.of(alpha_x, alpha_y, bias, out), tiling(x, y, dtype, by_descriptors)
    for start in range(0, members, MOST):
        some = slice(start, start + MOST)
        launch(x[some], y[some], epilogue.of_members(some), out[some], cut, by_descriptors)
    return out


def tiling(x: Tensor, y: Tensor, dtype: torch.dtype, by_descriptors: bool) -> Tiling:
    """How x [E, M, K] times y [E, N, K] is cut."""
    shape = (x.shape[1], y.shape[1], x.shape[2])
    if by_descriptors:
        deep = (*shape[:2], descriptors.PAIRS * shape[2]) if x.dtype == torch.float32 else shape
        return tilings.described(*deep, tilings.multiprocessors(x.device), dtype)
    return (tilings.wide if x.dtype == torch.float32 else tilings.narrow)(*shape)


def launch(x: Tensor, y: Tensor, epilogue: Epilogue, out: Tensor, tiling: Tiling, by_descriptors: bool = False) -> None:
    """The product into ``out`` as ``tiling`` says.

    ``by_descriptors``, of operands that they can multiply, FP32 numbers are sums of BF16 ones; else FP32 stays FP32.
    """
    wide = x.dtype == torch.float32
    _, parts = tiling.share(x.shape[2])
    apart = parts > 1 or (wide and epilogue.biased and not by_descriptors)
    target = torch.empty(parts, *out.shape, dtype=torch.float32, device=x.device) if apart else out.unsqueeze(0)
    here = epilogue.none() if apart else epilogue
    if by_descriptors:
        inside = tiling.inside and descriptors.fits(x) and descriptors.fits(y)
        operands = (split(x), split(y)) if wide and not inside else (x, y)
        descriptors.launch(*operands, target.flatten(0, 1), here, tiling)
    else:
        by_pointers(x, y, target, here, tiling)
    if apart:
        add_parts(target, out, epilogue)


def by_pointers(x: Tensor, y: Tensor, target: Tensor, epilogue: Epilogue, tiling: Tiling) -> None:
    """The product into ``target`` [parts, E, M, N], on any GPU.

    FP32 sums are fused multiply-adds, which an epilogue with a bias must not have: then it comes apart.
    """
    from dse.kernels.device.matmul import product_kernel

    (members, rows, depth), columns, wide = x.shape, y.shape[1], x.dtype == torch.float32
    (share, parts), tile = tiling.share(depth), tiling.tile
    tiles = -(-rows // tile.m) * -(-columns // tile.n)
    product_kernel[(tiles, parts, members)](
        x, *x.stride(), y, *y.stride(), target, *target.stride(), *epilogue[:4], rows, columns, depth, share,
        BM=tile.m, BN=tile.n, BK=tile.k, SCALES=epilogue.scales, BIAS=epilogue.biased, EVEN=share * parts == depth,
        IEEE=wide, INTERPRET=interpreted(), num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=wide,
    )  # fmt: skip


def add_parts(parts: Tensor, out: Tensor, epilogue: Epilogue) -> None:
    """The sums of ``parts`` [parts, E, M, N] in their order, finished, into ``out``."""
    from dse.kernels.device.matmul import sum_kernel

    (members, rows, columns), block = out.shape, 1024
    sum_kernel[(-(-rows * columns // block), members)](
        parts, out, *epilogue[:4], rows * columns, columns, PARTS=len(parts), SCALES=epilogue.scales,
        BIAS=epilogue.biased, B=block, INTERPRET=interpreted(), enable_fp_fusion=False,
    )  # fmt: skip
