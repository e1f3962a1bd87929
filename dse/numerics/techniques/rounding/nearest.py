"""Rounding to nearest."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dse.errors import OptionError
from dse.numerics.ops import FREE, Ops
from dse.numerics.techniques.rounding.base import Rounding


@dataclass(frozen=True)
class NearestEven(Rounding):
    """q = the nearest integer to v, a tie to the even one (IEEE 754 roundTiesToEven).

    Cost: part of the base cast. Source: IEEE 754-2019, 4.3.1; OCP MX v1.0, 6.3.
    """

    def lattice(self, v: Tensor, bits: Tensor | None) -> Tensor:
        return v.round()

    def ops(self) -> Ops:
        return FREE


@dataclass(frozen=True)
class NearestAway(Rounding):
    """q = the nearest integer to v, a tie to the larger magnitude (microxcaling's default 'nearest').

    Computed as trunc(v) + [frac |v| >= 1/2], not floor(|v| + 1/2), which rounds 0.49999997 up.
    Cost: part of the base cast. Source: IEEE 754-2019 roundTiesToAway; arXiv 2310.10537's library.
    """

    def lattice(self, v: Tensor, bits: Tensor | None) -> Tensor:
        q = v.trunc()
        return q.add_(((v - q).abs_() >= 0.5).to(v.dtype).copysign_(v))

    def ops(self) -> Ops:
        return FREE


@dataclass(frozen=True)
class MantissaEven(Rounding):
    """q = floor(|v| + 2^-(m+1)): rounds down, except what an m-bit mantissa would round up past the next integer.

    On an E8M0 scale of amax / 4 this is the MX 'even' rule for elements with ``mantissa`` bits m (1 for E2M1): the
    block's largest value is first rounded to the element's precision, so that 7 (1.75 * 4) and more count as 8.
    Cost: part of the base cast. Source: torchao ScaleCalculationMode.EVEN. Raises OptionError unless 0 <= m <= 20.
    """

    mantissa: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.mantissa <= 20:
            raise OptionError(f"mantissa_even.mantissa must be between 0 and 20, not {self.mantissa}")

    def lattice(self, v: Tensor, bits: Tensor | None) -> Tensor:
        return v.abs().add_(2.0 ** -(self.mantissa + 1)).floor_().copysign_(v)

    def ops(self) -> Ops:
        return FREE
