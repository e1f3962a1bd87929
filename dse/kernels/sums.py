"""Sums over the rows of every member on a GPU, the same bits in any pack: gradients of biases."""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS, _COLUMNS, _DEPTH = 32, 64, 8


def column_sums(x: Tensor) -> Tensor:
    """float32 or bfloat16 [E, M, N], any strides -> float32 [E, N]: chunks of rows, then the chunks, in order."""
    from dse.kernels.device import sums as device

    members, rows, columns = x.shape
    while rows > 1:
        chunks = -(-rows // (_ROWS * _DEPTH))
        parts = torch.empty(members, chunks, columns, device=x.device)
        device.rows_kernel[(-(-columns // _COLUMNS), chunks, members)](
            x, *x.stride(), parts, rows, columns, chunks, BM=_ROWS, BN=_COLUMNS, DEPTH=_DEPTH
        )
        x, rows = parts, chunks
    return x.sum(1, dtype=torch.float32) if rows == 0 else x.squeeze(1).float()
