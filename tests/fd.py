"""Finite differences in float64, and smooth stand-ins that make a quantizer differentiable everywhere it is looked at.

The house claims that ``cast`` is the only non-differentiable node, so that ``Quantizer.vjp`` is the exact
vector-Jacobian product for whatever slope is plugged in. With a rounding whose true derivative *is* the slope, that can
be measured. A technique is tested by plugging it in beside the stand-ins:

>>> import torch
>>> from dse.numerics.block import BlockQuantizer
>>> x = torch.randn(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
>>> q = BlockQuantizer(block=8, **SMOOTH, scale_gradient="full")
>>> bool(vjp_error(q, x) < 1e-7)
True
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import Format
from dse.numerics.grid import floor_power
from dse.numerics.ops import FREE, Ops
from dse.numerics.quantizer import Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.rounding import Rounding
from dse.numerics.techniques.slopes import Slope
from dse.numerics.techniques.statistics import Statistic
from dse.numerics.techniques.tensor_scales import TensorScale

STEP = 1e-6
"""Central differences: truncation ~ STEP^2, cancellation ~ 1e-16 / STEP, both near 1e-10."""


def difference(f: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor, step: float = STEP) -> Tensor:
    """(f(x + h d) - f(x - h d)) / 2h: the derivative of f at x along d, the shape of f(x)."""
    with torch.no_grad():
        return (f(x + step * direction) - f(x - step * direction)) / (2 * step)


def jacobian(f: Callable[[Tensor], Tensor], x: Tensor, step: float = STEP) -> Tensor:
    """df_i/dx_j by central differences: [f.numel, x.numel]; ``f`` maps a stack [n, *x.shape] member by member."""
    directions = torch.eye(x.numel(), dtype=x.dtype).unflatten(-1, x.shape)
    return difference(f, x, directions, step).flatten(1).mT


def pulled_back(vjp: Callable[[Tensor], Tensor], shape: torch.Size) -> Tensor:
    """The same matrix from a vector-Jacobian product, all unit cotangents in one stack."""
    return vjp(torch.eye(shape.numel(), dtype=torch.float64).unflatten(-1, shape)).flatten(1)


def vjp_error(quantizer: Quantizer, x: Tensor, key: Key | None = None) -> Tensor:
    """Largest |df_i/dx_j - finite difference| over all pairs (i, j), off-diagonal ones included.

    ``x`` [..., R, K] float64, small, away from the kinks of f (saturation, ties of a maximum).
    """
    assert x.dtype == torch.float64
    found = pulled_back(lambda g: quantizer.vjp(x.expand_as(g), g, key), x.shape)
    expected = jacobian(lambda at: quantizer.dequantized(at, key), x)
    return (found - expected).abs().max()


def frozen(quantizer: BlockQuantizer, x: Tensor) -> BlockQuantizer:
    """The quantizer with its scales held at what they are at ``x``: what 'scale treated as a constant' means."""
    trace = quantizer.trace(x)
    held = None if trace.level is None else HeldReference(trace.level.g, trace.level.target)
    return replace(quantizer, statistic=Held(trace.statistic.detach()), tensor_scale=held)


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


@dataclass(frozen=True, eq=False)
class Held(Statistic):
    """A statistic that does not depend on the operand."""

    counts_zeros: ClassVar[bool] = False

    z: Tensor

    def value(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return self.z

    def slope(self, x: Tensor, z: Tensor, dims: tuple[int, ...]) -> Tensor:
        return torch.zeros_like(x)

    def ops(self) -> Ops:
        return FREE

    def slope_ops(self) -> Ops:
        return FREE


@dataclass(frozen=True, eq=False)
class HeldReference(TensorScale):
    """A tensor scale that does not depend on the operand."""

    g: Tensor
    target: float | None

    def reference(self, peak: Tensor, key: Key | None) -> Tensor:
        return self.g

    def ops(self) -> Ops:
        return FREE


SMOOTH: dict[str, Any] = {
    "rounding": Wave(),
    "slope": WaveSlope(),
    "scale_rounding": Wave(0.3),
    "scale_slope": WaveSlope(0.3),
}
"""Options of a BlockQuantizer that make both casts smooth."""
