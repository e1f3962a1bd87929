"""Fused Triton kernels for the networks' pointwise operations and norms on a GPU, where torch needs several kernels.

Each is an autograd function over one model's tensors whose vmap rule hands the stack [E, ...] of a pack to the same
kernel. Arithmetic is FP32 whatever the tensors' type, nothing is summed by atomics (the same bits every time, and for a
member in any pack), and there is no host synchronization (CUDA graphs). A CPU keeps torch's own forms.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from dse.kernels.availability import lies_on_gpu

TYPES = (torch.float32, torch.bfloat16, torch.float16)


@cache
def installed() -> bool:
    """Whether Triton can be imported."""
    return find_spec("triton") is not None


def usable(*operands: Tensor) -> bool:
    """Whether the kernels take these tensors; else the caller composes torch's operations."""
    return all(lies_on_gpu(x) and x.dtype in TYPES for x in operands) and installed()
