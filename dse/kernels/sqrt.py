"""The square root as IEEE 754 has it: the exact root, rounded once, on every processor and device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_NUMPY = (torch.float32, torch.float64)


def sqrt(x: Tensor, out: Tensor | None = None) -> Tensor:
    """The correctly rounded square root of x; ``out``: where to put it, which may be x.

    On the CPU, torch's own is that of MKL's vector library: one unit in the last place off for some numbers, and how
    many depends on the processor. NumPy's is the processor's instruction. Where a gradient is wanted, or a transform of
    ``torch.func`` is at work, float32 goes through float64: a root of 24 bits lies so far from the middle of two
    neighbors that an error of 3 units in float64 does not change which is the nearest. Float64 stays torch's own there.
    """
    if x.device.type != "cpu":
        return torch.sqrt(x, out=out)
    if out is None and (_differentiable(x) or x.dtype not in _NUMPY or not _concrete(x)):
        return x.double().sqrt().to(x.dtype)
    root = torch.empty_like(x) if out is None else out
    with np.errstate(invalid="ignore"):
        np.sqrt(x.detach().numpy(), out=root.numpy())
    return root


def _differentiable(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


def _concrete(x: Tensor) -> bool:
    """Whether x has numbers that NumPy can read."""
    if torch.compiler.is_compiling():
        return False
    try:
        x.data_ptr()
    except RuntimeError:
        return False
    return True


__all__ = ["sqrt"]
