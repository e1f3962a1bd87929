"""Finite differences in float64, and smooth stand-ins that make a quantizer differentiable everywhere it is looked at.

The house claims that ``cast`` is the only non-differentiable node, so that ``Quantizer.vjp`` is the exact
vector-Jacobian product for whatever slope is plugged in. With a rounding whose true derivative *is* the slope, that can
be measured. A technique is tested by plugging it in beside the stand-ins:

>>> import torch
>>> from dse.block import BlockQuantizer
>>> x = torch.randn(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
>>> q = BlockQuantizer(block=8, **SMOOTH, statistic=SoftMaximum())
>>> bool(vjp_error(q, x) < 1e-7)
True
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dse.block import BlockQuantizer
from dse.cast import floor_power
from dse.formats import Format
from dse.ops import FREE, Ops
from dse.quantizer import Quantizer
from dse.random import Key
from dse.techniques.rounding import Rounding
from dse.techniques.slopes import Slope
from dse.techniques.statistics import Statistic
from dse.techniques.tensor_scales import TensorScale

STEP = 1e-6
"""Central differences: truncation ~ STEP^2, cancellation ~ 1e-16 / STEP, both near 1e-10."""


def difference(f: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor, step: float = STEP) -> Tensor:
    """(f(x + h d) - f(x - h d)) / 2h: the derivative of f at x along d, the shape of f(x)."""
    with torch.no_grad():
        return (f(x + step * direction) - f(x - step * direction)) / (2 * step)


def jacobian(f: Callable[[Tensor], Tensor], x: Tensor, step: float = STEP) -> Tensor:
    """df_i/dx_j by central differences: [f.numel, x.numel]."""
    directions = torch.eye(x.numel(), dtype=x.dtype).unflatten(-1, x.shape)
    return torch.stack([difference(f, x, d, step).flatten() for d in directions], -1)


def pulled_back(vjp: Callable[[Tensor], Tensor], shape: torch.Size) -> Tensor:
    """The same matrix from a vector-Jacobian product, one unit cotangent at a time."""
    units = torch.eye(shape.numel(), dtype=torch.float64).unflatten(-1, shape)
    return torch.stack([vjp(g).flatten() for g in units])


def vjp_error(quantizer: Quantizer, x: Tensor, key: Key | None = None) -> Tensor:
    """Largest |df_i/dx_j - finite difference| over all pairs (i, j), off-diagonal ones included.

    ``x`` [..., R, K] float64, small, away from the kinks of f (saturation, ties of a maximum).
    """
    assert x.dtype == torch.float64
    found = pulled_back(lambda g: quantizer.vjp(x, g, key), x.shape)
    expected = jacobian(lambda at: quantizer.dequantized(at, key), x)
    return (found - expected).abs().max()


def frozen(quantizer: BlockQuantizer, x: Tensor) -> BlockQuantizer:
    """The quantizer with its statistic held at the value it has at ``x``: what 'scale treated as a constant' means."""
    return replace(quantizer, statistic=Fixed(quantizer.statistic(quantizer._blocked(x))))


@dataclass(frozen=True)
class Wave(Rounding):
    """v - a sin(2 pi v) / 2 pi: meets the grid where rounding does, with a continuous derivative."""

    a: float = 0.7

    def lattice(self, v: Tensor, bits: Tensor | None) -> Tensor:
        return v - self.a * torch.sin(2 * math.pi * v) / (2 * math.pi)

    def ops(self) -> Ops:
        return FREE


@dataclass(frozen=True)
class WaveSlope(Slope):
    """The derivative of ``Wave`` rounding followed by saturation: 1 - a cos(2 pi v), and 0 beyond the largest value."""

    a: float = 0.7

    def __call__(self, u: Tensor, fmt: Format) -> Tensor:
        v = u / (floor_power(u, fmt.emin) * 2.0**-fmt.man)
        low = -fmt.max if fmt.signed else 0.0 if fmt.subnormals else fmt.smallest
        return torch.where((u > low) & (u < fmt.max), 1 - self.a * torch.cos(2 * math.pi * v), 0.0)

    def ops(self) -> Ops:
        return FREE


@dataclass(frozen=True)
class SoftMaximum(Statistic):
    """log(sum exp(beta |x|)) / beta over the block, gradient and all."""

    beta: float = 2.0

    def __call__(self, x: Tensor) -> Tensor:
        return (self.beta * x.abs()).logsumexp((-3, -1), keepdim=True) / self.beta

    def ops(self) -> Ops:
        return FREE


@dataclass(frozen=True)
class HardMaximum(Statistic):
    """max |x| with its gradient at the largest element."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.abs().amax((-3, -1), keepdim=True)

    def ops(self) -> Ops:
        return FREE


@dataclass(frozen=True, eq=False)
class Fixed(Statistic):
    """A statistic that does not depend on the operand."""

    z: Tensor

    @property
    def is_constant(self) -> bool:
        return True

    def __call__(self, x: Tensor) -> Tensor:
        return self.z

    def ops(self) -> Ops:
        return FREE


@dataclass(frozen=True)
class SoftReference(TensorScale):
    """T c / g with g a smooth maximum of the block statistics, gradient and all."""

    target: float = 100.0

    def __call__(self, z: Tensor, scale: Format, constant: float) -> Tensor:
        return self.target * constant / z.logsumexp((-4, -2), keepdim=True)

    def ops(self) -> Ops:
        return FREE


SMOOTH: dict[str, Any] = {
    "rounding": Wave(),
    "slope": WaveSlope(),
    "scale_rounding": Wave(0.3),
    "scale_slope": WaveSlope(0.3),
}
"""Options of a BlockQuantizer that make both casts smooth."""
