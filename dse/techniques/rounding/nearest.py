"""Round to nearest, ties to even."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dse.ops import FREE, Ops
from dse.techniques.rounding.base import Rounding


@dataclass(frozen=True)
class NearestEven(Rounding):
    """q = the nearest integer to v, a tie to the even one (IEEE 754 roundTiesToEven).

    Cost: part of the base cast. Source: IEEE 754-2019, 4.3.1; OCP MX v1.0, 6.3.
    """

    def lattice(self, v: Tensor, bits: Tensor | None) -> Tensor:
        return v.round()

    def ops(self) -> Ops:
        return FREE
