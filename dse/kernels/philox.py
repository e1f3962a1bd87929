"""Philox words for plain-torch quantizers on a GPU: one launch where torch takes a hundred."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 512


def words(clock: Tensor, count: int, layer: int, purpose: int) -> Tensor:
    """int32 [..., count, 4]: the calls 0 to count - 1 of the stream that ``clock`` [..., 2], layer, purpose address."""
    from dse.kernels.device import philox_words as device

    flat = clock.reshape(-1, 2)
    out = torch.empty(len(flat), count, 4, dtype=torch.int32, device=clock.device)
    if out.numel():
        parts = -(-count // _BLOCK)
        device.words_kernel[(len(flat) * parts,)](
            out, flat, *flat.stride(), count, parts, layer, purpose, BLOCK=_BLOCK, num_warps=4
        )
    return out.view(*clock.shape[:-1], count, 4)
