"""SiLU and GELU, with results that do not depend on where in memory an element lies.

On the CPU, torch's own compute the last (numel mod 16) elements of a tensor with another exponential than the rest, so
that a member of a pack could differ from its solo run. `exp` and `erf` treat all elements alike, and the rest is IEEE
arithmetic. On a GPU, torch's fused kernels are used: they treat all elements alike. Both compute BF16 in FP32 and round
the result once.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from dse.tasks.nets import fused
from dse.tasks.nets.fused.gate import gate
from dse.tasks.nets.masters import wide


def silu(x: Tensor) -> Tensor:
    """x σ(x), σ(x) = 1 / (1 + exp(-x)) (arXiv 1606.08415)."""
    if x.device.type != "cpu":
        return F.silu(x)
    u = wide(x)
    y = u / (1 + (-u).clamp(max=80).exp())  # without the bound the derivative would be inf · 0 below -88
    return y.to(x.dtype)


def gated(a: Tensor, b: Tensor) -> Tensor:
    """silu(a) b, of two tensors of one shape (SwiGLU, arXiv 2002.05202)."""
    if fused.usable(a, b) and a.dtype == b.dtype:
        return gate(a, b)
    return (silu(wide(a)) * wide(b)).to(a.dtype)


def gelu(x: Tensor) -> Tensor:
    """x Φ(x), Φ the normal distribution function (arXiv 1606.08415)."""
    if x.device.type != "cpu":
        return F.gelu(x)
    u = wide(x)
    return (u * (0.5 * (1 + (u * math.sqrt(0.5)).erf()))).to(x.dtype)
