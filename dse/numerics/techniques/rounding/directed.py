"""Directed rounding."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dse.numerics.ops import FREE, Ops
from dse.numerics.techniques.rounding.base import Rounding


@dataclass(frozen=True)
class TowardZero(Rounding):
    """q = sign(v) floor(|v|): truncates the magnitude. On an E8M0 scale this is the OCP 'floor' rule.

    Cost: part of the base cast. Source: IEEE 754-2019 roundTowardZero; OCP MX v1.0, 6.3 (shared exponent).
    """

    def lattice(self, v: Tensor, bits: Tensor | None) -> Tensor:
        return v.trunc()

    def ops(self) -> Ops:
        return FREE


@dataclass(frozen=True)
class AwayFromZero(Rounding):
    """q = sign(v) ceil(|v|): enlarges the magnitude. On an E8M0 scale of amax / max, NVIDIA's rule.

    Cost: part of the base cast. Source: arXiv 2506.08027 (MXFP8 recipes), Sec. 3.
    """

    def lattice(self, v: Tensor, bits: Tensor | None) -> Tensor:
        return v.abs().ceil_().copysign_(v)

    def ops(self) -> Ops:
        return FREE
