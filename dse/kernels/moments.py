"""Sums over a gradient and its quantization noise on a GPU, in two or three launches for all members."""

from __future__ import annotations

import torch
from torch import Tensor

_ELEMENTS, _SUMS = 2048, 1024


def moments(g: Tensor, values: Tensor, alpha: Tensor | None = None) -> Tensor:
    """Float64 [3, E]: the sums of G, of G^2, and of N^2, N = alpha * values - G in FP32, as pairwise trees.

    ``g`` and ``values`` [E, M, N] float32 or bfloat16; ``alpha``: an element for each member, or None: 1. Neighbors of
    a member's elements, row after row, are added as ``dse.numerics.tree`` says.
    """
    from dse.kernels.device import moments as device

    g, values = g.contiguous(), values.contiguous()
    members, size = len(g), g.shape[1:].numel()
    chunks = -(-size // _ELEMENTS)
    parts = torch.zeros(3, members, chunks, dtype=torch.float64, device=g.device)
    if parts.numel() == 0:
        return parts.new_zeros(3, members)
    scale = parts if alpha is None else alpha
    device.moments_kernel[(members * chunks,)](
        g, values, scale, parts, size, chunks, SCALED=alpha is not None, B=_ELEMENTS, num_warps=4,
        enable_fp_fusion=False,
    )  # fmt: skip
    while (count := parts.shape[-1]) > 1:
        chunks = -(-count // _SUMS)
        joined = torch.empty(3, members, chunks, dtype=torch.float64, device=g.device)
        device.join_kernel[(3 * members * chunks,)](
            parts, joined, count, chunks, B=min(_SUMS, 1 << (count - 1).bit_length()), num_warps=4
        )
        parts = joined
    return parts.squeeze(-1)
