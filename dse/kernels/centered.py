"""A matrix without its mean row on a GPU: in one pass, where torch converts BF16 and broadcasts element by element."""

from __future__ import annotations

import torch
from torch import Tensor

from dse.kernels.availability import takes_plainly

_ROWS, _COLUMNS = 16, 128


def takes_centered(x: Tensor, row: Tensor) -> bool:
    """Whether ``centered`` computes ``x - row``: stacks on a GPU, x BF16 or FP32, row FP32, without a gradient."""
    stacks = x.dim() == row.dim() == 3 and x.numel() > 0
    fits = x.dtype in (torch.float32, torch.bfloat16) and row.dtype == torch.float32
    return stacks and fits and takes_plainly(x) and takes_plainly(row)


def centered(x: Tensor, row: Tensor) -> Tensor:
    """x [E, M, K], BF16 or FP32, any strides, minus row [E, 1, K], float32 -> [E, M, K]: torch's ``x - row``."""
    from dse.kernels.device.centered import centered_kernel

    members, rows, columns = x.shape
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    tiles_m, tiles_k = -(-rows // _ROWS), -(-columns // _COLUMNS)
    centered_kernel[(members * tiles_m * tiles_k,)](
        x, *x.stride(), row, row.stride(0), row.stride(2), out, rows, columns, tiles_m, tiles_k,
        BM=_ROWS, BK=_COLUMNS, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return out


__all__ = ["centered", "takes_centered"]
