"""Jacobians of block quantizers from finite differences in float64, assembled by the chain rule.

f depends on X directly, through the statistic Z of its block and through the reference g of the tensor scale. Each
partial derivative is measured with the others held, and ``expected`` puts together those that an option lets through:
'constant' drops Z, 'diagonal' keeps the diagonal of Z's part, 'ignore' drops g.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.numerics.block import BlockQuantizer
from dse.numerics.ops import FREE, Ops
from dse.numerics.random import Key
from dse.numerics.techniques.statistics import HardSoft, Quest, SoftSoft, Statistic
from dse.numerics.techniques.tensor_scales import Outer, TensorScale
from tests.gradients.stairs import margins

STEP = 1e-5
"""Fourth order: truncation ~ STEP^4, cancellation ~ 1e-16 / STEP, about 1e-11 of f."""
AWAY = 1e-3
"""Data keep this distance from every kink, in grid intervals."""


def derivative(f: Callable[[Tensor], Tensor], x: Tensor, step: float = STEP) -> Tensor:
    """df_i/dx_j as [x.numel (j), *shape of f (i)]; ``f`` maps a stack [n, *x.shape] member by member."""
    with torch.no_grad():
        d = step * torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape)
        return (8 * (f(x + d) - f(x - d)) - (f(x + 2 * d) - f(x - 2 * d))) / (12 * step)


def jacobian(vjp: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """df_i/dx_j as [j, i] from a vector-Jacobian product that takes a stack [n, *x.shape] of cotangents."""
    units = torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape)
    return vjp(units).flatten(1).mT.contiguous()


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected entry."""
    return float((found - expected).abs().max() / expected.abs().max())


def blocked(x: Tensor, block: int, tile: int) -> Tensor:
    """[..., R, K] -> [..., R/t, t, K/b, b] with zeros at the ends; a block is at most as large as the operand."""
    rows, columns = x.shape[-2:]
    block, tile = min(block, columns), min(tile, rows)
    x = pad(x, (0, -columns % block, 0, -rows % tile))
    return x.reshape(*x.shape[:-2], x.shape[-2] // tile, tile, x.shape[-1] // block, block)


def statistic(z: Statistic, x: Tensor, block: int, tile: int) -> Tensor:
    """Z by its formula, of the elements that there are; for ``hard_soft`` the value."""
    blocks, inside = blocked(x, block, tile), blocked(torch.ones_like(x), block, tile)
    if isinstance(z, SoftSoft):
        return (inside * torch.exp(z.beta * blocks.abs())).sum((-3, -1), keepdim=True).log() / z.beta
    if isinstance(z, Quest):
        number = inside.sum((-3, -1), keepdim=True)
        square, mean = (t.sum((-3, -1), keepdim=True) / number for t in (blocks.square(), blocks))
        return z.clip * (square - mean.square() if z.centered else square).sqrt() + 6e-8
    return blocks.abs().amax((-3, -1), keepdim=True)


def statistic_derivative(z: Statistic, x: Tensor, block: int, tile: int) -> Tensor:
    """dZ/dX_j as [j, blocks]; for ``hard_soft`` that of the soft maximum, as published."""
    pretended = SoftSoft(z.beta) if isinstance(z, HardSoft) else z
    return derivative(lambda at: statistic(pretended, at, block, tile), x)


def reference(scale: TensorScale | None, x: Tensor, block: int, tile: int) -> Tensor | None:
    """g by its formula: one, or for the outer scale one per block."""
    if scale is None:
        return None
    if not isinstance(scale, Outer):
        return x.abs().amax((-2, -1), keepdim=True)[..., None, None]
    peaks = blocked(x, block, tile).abs().amax((-3, -1), keepdim=True)
    groups = [peaks[..., i : i + scale.blocks, :] for i in range(0, peaks.shape[-2], scale.blocks)]
    return torch.cat([g.amax(-2, keepdim=True).expand_as(g) for g in groups], -2)


@dataclass(frozen=True, eq=False)
class Held(Statistic):
    """A statistic that is given."""

    counts_zeros: ClassVar[bool] = False

    z: Tensor

    def value(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return self.z

    def slope(self, x: Tensor, z: Tensor, dims: tuple[int, ...]) -> Tensor:
        raise AssertionError("held")

    def ops(self) -> Ops:
        return FREE

    def slope_ops(self) -> Ops:
        return FREE


@dataclass(frozen=True, eq=False)
class HeldScale(TensorScale):
    """A tensor scale whose reference is given."""

    g: Tensor
    target: float | None = None

    def reference(self, peak: Tensor, key: Key | None) -> Tensor:
        return self.g

    def ops(self) -> Ops:
        return FREE


@dataclass(frozen=True)
class Parts:
    """What f is made of at X, all [j, i]: its direct part, the part through Z, and the part through g."""

    direct: Tensor
    through_z: Tensor
    through_g: Tensor
    value: Tensor

    def expected(self, scale_gradient: str, through: str) -> Tensor:
        """The Jacobian that the options name."""
        z = {"constant": 0 * self.through_z, "full": self.through_z, "diagonal": self.through_z.diag().diag()}
        return self.direct + z[scale_gradient] + (self.through_g if through == "exact" else 0)


def measure_parts(q: BlockQuantizer, x: Tensor) -> Parts:
    """The parts of ``q`` at ``x`` [R, K], each by finite differences with the others held."""
    n = x.numel()
    z0 = statistic(q.statistic, x, q.block, q.tile)
    g0 = reference(q.tensor_scale, x, q.block, q.tile)

    def f(at: Tensor, z: Tensor, g: Tensor | None) -> Tensor:
        scale = None if g is None or q.tensor_scale is None else HeldScale(g, q.tensor_scale.target)
        return replace(q, statistic=Held(z), tensor_scale=scale, scale_gradient="constant").dequantized(at)

    direct = derivative(lambda at: f(at, z0, g0), x).flatten(1)
    by_z = derivative(lambda z: f(x.expand(len(z), *x.shape), z, g0), z0).flatten(1)
    through_z = statistic_derivative(q.statistic, x, q.block, q.tile).flatten(1) @ by_z
    through_g = torch.zeros(n, n, dtype=x.dtype)
    if g0 is not None and g0.numel() == 1:
        by_g = derivative(lambda g: f(x.expand(len(g), *x.shape), z0, g), g0).flatten(1)
        through_g = derivative(lambda at: at.abs().amax((-2, -1), keepdim=True), x).flatten(1) @ by_g
    return Parts(direct, through_z, through_g, f(x, z0, g0))


def operand(q: BlockQuantizer, *shape: int, key: Key | None = None) -> Tensor:
    """A normal operand [R, K] whose casts all stay away from kinks: the first such one of a seeded stream."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        stack = torch.randn(100, *shape, dtype=torch.float64, generator=generator)
        with margins() as margin:
            q.dequantized(stack, key)
        good = margin.least > AWAY
        if good.any():
            return stack[int(good.nonzero()[0])]
    raise AssertionError("2000 operands, and none keeps its distance from the kinks")


def found_jacobian(q: BlockQuantizer, x: Tensor, key: Key | None = None) -> Tensor:
    """df_i/dx_j as [j, i] from ``q.vjp``, all cotangents in one stack."""
    return jacobian(lambda g: q.vjp(x.expand_as(g), g, key), x)
