"""SiLU and GELU, with results that do not depend on where in memory an element lies.

On the CPU, torch's own compute the last (numel mod 16) elements of a tensor with another exponential than the rest, so
that a member of a pack could differ from its solo run. `exp` and `erf` treat all elements alike, and the rest is IEEE
arithmetic. On a GPU, torch's fused kernels are used: they treat all elements alike.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from dse.tasks.nets import fused
from dse.tasks.nets.fused.gate import gate


def silu(x: Tensor) -> Tensor:
    """x σ(x), σ(x) = 1 / (1 + exp(-x)) (arXiv 1606.08415)."""
    if x.device.type != "cpu":
        return F.silu(x)
    return x / (1 + (-x).clamp(max=80).exp())  # without the bound the derivative would be inf · 0 below -88


def gated(a: Tensor, b: Tensor) -> Tensor:
    """silu(a) b, of two tensors of one shape (SwiGLU, arXiv 2002.05202)."""
    if fused.usable(a, b) and a.dtype == b.dtype:
        return gate(a, b)
    return silu(a) * b


def gelu(x: Tensor) -> Tensor:
    """x Φ(x), Φ the normal distribution function (arXiv 1606.08415)."""
    if x.device.type != "cpu":
        return F.gelu(x)
    return x * (0.5 * (1 + (x * math.sqrt(0.5)).erf()))
