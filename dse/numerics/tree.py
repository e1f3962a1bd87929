"""Sums in an order that is stated, so that every device and kernel gives the same bits: pairwise trees."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.kernels.tree import takes_tree, tree_sum


def total(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The sum over ``dims``, which stay as size 1, one dimension after the other, the last of ``dims`` first.

    Along a dimension neighbors are added, (x0 + x1) + (x2 + x3) and so on, with zeros up to the next power of two. So a
    tree over a part that starts at a multiple of a power of two and is as long is a subtree, and zeros behind the
    elements change nothing but the sign of a zero: a sum of zeros is +0. Numbers of 16 bits are added in FP32. On a GPU
    kernels compute the same bits.
    """
    for dim in reversed(dims):
        if takes_tree(x):
            x = tree_sum(x, dim)
            continue
        y = _wide(x).movedim(dim, -1)
        while y.shape[-1] > 1:
            if y.shape[-1] % 2:
                y = pad(y, (0, 1))
            y = y[..., ::2] + y[..., 1::2]
        x = y.movedim(-1, dim)
    return _wide(x) + 0.0


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


__all__ = ["total"]
