"""What follows a library's product of quantized operands: the tensor scales of both, per member."""

from __future__ import annotations

import torch
from torch import Tensor

from dse.kernels.coverage import available

_BLOCK = 2048


def scale_(y: Tensor, a: Tensor | None, b: Tensor | None) -> Tensor:
    """``y`` [E, M, N] times ``a``, ``b`` or a · b, each [E, 1, 1] or None, in place; the bits of ``y.mul_(a * b)``.

    By a kernel where ``y`` is float32 on a GPU and its members are contiguous, else by torch.
    """
    if y.is_cuda and y.dtype == torch.float32 and y.dim() == 3 and y[:1].is_contiguous() and available():
        return scale_by_kernel_(y, a, b)
    for_all = b if a is None else a if b is None else a * b
    return y if for_all is None else y.mul_(for_all)


def scale_by_kernel_(y: Tensor, a: Tensor | None, b: Tensor | None) -> Tensor:
    """The kernel of ``scale_``, which needs y as said there; in Triton's interpreter also on a CPU."""
    from dse.kernels.device import epilogue as device

    if (a is None and b is None) or y.numel() == 0:
        return y
    left, right = (y if t is None else t.expand(len(y), 1, 1) for t in (a, b))
    size = y.shape[1] * y.shape[2]
    parts = -(-size // _BLOCK)
    device.scale_kernel[(len(y) * parts,)](
        y, y.stride(0), size, left, left.stride(0), right, right.stride(0), parts,
        BLOCK=_BLOCK, LEFT=a is not None, RIGHT=b is not None, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return y
