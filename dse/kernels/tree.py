"""Sums as pairwise trees by kernels: the bits of ``dse.numerics.tree``, in a pass over memory for every 64 numbers of a
sum, or for every 1,024 along the last axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dse.kernels.availability import takes_plainly

_FOLD, _SIDE, _ELEMENTS = 1024, 32, 2048
"""Numbers of a tree that a program adds up at most, trees that lie side by side in memory, and elements it holds."""


def takes_tree(x: Tensor) -> bool:
    """Whether ``tree_sum`` computes sums of ``x``: float32 or bfloat16 on a GPU, without transforms and a gradient."""
    return x.dtype in (torch.float32, torch.bfloat16) and x.numel() > 0 and takes_plainly(x)


def tree_sum(x: Tensor, dim: int) -> Tensor:
    """The sums over a dimension, which stays as size 1: float32, neighbors added, then neighboring sums and so on."""
    dim %= x.dim()
    before, n, after = x.shape[:dim], x.shape[dim], x.shape[dim + 1 :]
    return fold(x.reshape(before.numel(), n, after.numel()).contiguous()).view(*before, 1, *after)


def fold(x: Tensor) -> Tensor:
    """x [A, n, side] contiguous -> [A, side], in FP32 at least: the trees' sums over the middle axis."""
    from dse.kernels.device.fold import fold_kernel

    wide = torch.promote_types(x.dtype, torch.float32)
    outer, n, side = x.shape
    while n > 1:
        beside = min(_power(side), _SIDE)
        width = min(_power(n), _FOLD, _ELEMENTS // beside)
        parts = -(-n // width)
        programs = parts * -(-side // beside)
        y = torch.empty(outer, parts, side, dtype=wide, device=x.device)
        fold_kernel[(outer * programs,)](
            x, y, n, side, parts, programs, F=width, S=beside, num_warps=4, enable_fp_fusion=False
        )
        x, n = y, parts
    return x.squeeze(1).to(wide)


def _power(n: int) -> int:
    """The next power of two."""
    return 1 << max(n - 1, 0).bit_length()


__all__ = ["fold", "takes_tree", "tree_sum"]
