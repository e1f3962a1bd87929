"""a b^T on a GPU: exact BF16 operands or FP32 ones, FP32 sums, factors of rows and tensors in the epilogue.

GPUs with tensor descriptors multiply FP32 operands as sums of three BF16 numbers, others in FP32. Factors of groups of
the contraction axis are applied to partial sums within a group, which are added in FP32.

Tiles and the split of the contraction axis depend on a member's own shape and never on how many members there are, so a
member gets the same bits in any pack (library products choose their algorithm by the batch).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dse.kernels import descriptors, tilings
from dse.kernels.availability import interpreted
from dse.kernels.epilogue import Epilogue
from dse.kernels.factors import NO_FACTORS, Pair, shared_group
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
    factors: Pair = NO_FACTORS,
    decode: Tensor | None = None,
) -> Tensor:
    """x [E, M, K], y [E, N, K], BF16 or FP32, any strides -> x y^T [E, M, N], times scales, plus bias.

    ``alpha_x`` and ``alpha_y``: float32, an element for each of the E products; None: 1. ``bias``: float32 [E, N],
    added in FP32 after the scales. ``dtype``: float32, or bfloat16 to round the result once, to nearest even.
    ``factors``: of x and of y; their groups have a common divisor of 16 or more. ``decode``: float32
    [E, 1, 1], which x, BF16 then, is multiplied by before, rounded to FP32; y is float32.
    """
    (members, rows, _), columns = x.shape, y.shape[1]
    out = torch.empty(members, rows, columns, dtype=dtype, device=x.device)
    if 0 in out.shape:
        return out
    by_descriptors = tilings.has_descriptors(x.device) and descriptors.multiplies(x if decode is None else y, y)
    if decode is not None and not by_descriptors:
        x, decode = x * decode, None
    epilogue = Epilogue.of(alpha_x, alpha_y, bias, out, factors)
    cut = tiling(x, y, dtype, by_descriptors, shared_group(factors), decode is not None)
    for start in range(0, members, MOST):
        some = slice(start, start + MOST)
        scale = None if decode is None else decode[some]
        launch(x[some], y[some], epilogue.of_members(some), out[some], cut, by_descriptors, scale)
    return out


def tiling(
    x: Tensor, y: Tensor, dtype: torch.dtype, by_descriptors: bool, group: int = 0, decodes: bool = False
) -> Tiling:
    """How x [E, M, K] times y [E, N, K] is cut.

    ``group``: elements of K that have the same factors, 0: all; ``decodes``: x is multiplied by scales before.
    """
    rows, columns, depth = x.shape[1], y.shape[1], x.shape[2]
    if not by_descriptors and _wide(x, y):
        return tilings.wide(rows, columns, depth)
    slots = tilings.multiprocessors(x.device)
    pairs = descriptors.PAIRS[3 if decodes else _parts(x), _parts(y)] if by_descriptors else 1
    if group:
        return tilings.in_groups(rows, columns, pairs * depth, group, slots)
    if by_descriptors:
        return tilings.described(rows, columns, pairs * depth, slots, dtype)
    return tilings.narrow(rows, columns, depth)


def _wide(x: Tensor, y: Tensor) -> bool:
    return torch.float32 in (x.dtype, y.dtype)


def _parts(x: Tensor) -> int:
    """BF16 numbers that are the sum of one of ``x``."""
    return 3 if x.dtype == torch.float32 else 1


def launch(
    x: Tensor,
    y: Tensor,
    epilogue: Epilogue,
    out: Tensor,
    tiling: Tiling,
    by_descriptors: bool = False,
    decode: Tensor | None = None,
) -> None:
    """The product into ``out`` as ``tiling`` says.

    ``by_descriptors``, of operands that they can multiply, FP32 numbers are sums of BF16 ones; else FP32 stays FP32.
    ``decode``: of ``contract``, only by descriptors.
    """
    wide = _wide(x, y)
    _, parts = tiling.share(x.shape[2])
    apart = parts > 1 or (wide and epilogue.biased and not by_descriptors)
    target = torch.empty(parts, *out.shape, dtype=torch.float32, device=x.device) if apart else out.unsqueeze(0)
    here = epilogue.none() if apart else epilogue
    if by_descriptors:
        inside = tiling.inside and x.dtype == y.dtype and descriptors.fits(x) and descriptors.fits(y)
        one, two = (t if _parts(t) == 1 or inside else split(t) for t in (x, y))
        if decode is not None:
            one = split(x, decode)
        descriptors.launch(one, two, target.flatten(0, 1), here, tiling)
    else:
        by_pointers(x, y, target, here, tiling)
    if apart:
        add_parts(target, out, epilogue.at_end())


def by_pointers(x: Tensor, y: Tensor, target: Tensor, epilogue: Epilogue, tiling: Tiling) -> None:
    """The product into ``target`` [parts, E, M, N], on any GPU.

    FP32 sums are fused multiply-adds, which an epilogue with a bias must not have: then it comes apart.
    """
    from dse.kernels.device.matmul import product_kernel

    (members, rows, depth), columns, wide = x.shape, y.shape[1], _wide(x, y)
    (share, parts), tile = tiling.share(depth), tiling.tile
    tiles = -(-rows // tile.m) * -(-columns // tile.n)
    product_kernel[(tiles, parts, members)](
        x, *x.stride(), y, *y.stride(), target, *target.stride(), *epilogue.arguments, rows, columns, depth, share,
        BM=tile.m, BN=tile.n, BK=tile.k, **epilogue.constants, EVEN=share * parts == depth, IEEE=wide,
        INTERPRET=interpreted(), num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=wide,
    )  # fmt: skip


def add_parts(parts: Tensor, out: Tensor, epilogue: Epilogue) -> None:
    """The sums of ``parts`` [parts, E, M, N] in their order, finished, into ``out``."""
    from dse.kernels.device.matmul import sum_kernel

    (members, rows, columns), block = out.shape, 1024
    sum_kernel[(-(-rows * columns // block), members)](
        parts, out, *epilogue.arguments, rows * columns, columns, PARTS=len(parts), **epilogue.constants, B=block,
        INTERPRET=interpreted(), enable_fp_fusion=False,
    )  # fmt: skip
