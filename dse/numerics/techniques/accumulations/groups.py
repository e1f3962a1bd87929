"""Accumulation in groups, as Blackwell's FP4 tensor cores do it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.errors import OptionError, nearest
from dse.numerics.matmul import product
from dse.numerics.ops import FREE, Ops
from dse.numerics.techniques.accumulations.base import Accumulation

ROUNDINGS = ("toward_zero", "nearest_even")


def add_toward_zero(c: Tensor, p: Tensor) -> Tensor:
    """c + p rounded toward zero, exact: any floating dtype and broadcastable shapes.

    s = RNE(c + p), and Knuth's TwoSum gives the error e = c + p - s without rounding (gradual underflow assumed). Where
    e points back to zero, s lies beyond the sum and its neighbor toward zero is the answer. A finite sum that
    overflows gives the largest number; infinities and NaN among the operands stay.
    """
    s = c + p
    back = s - c
    e = (c - (s - back)) + (p - back)
    zero = torch.zeros_like(s)
    beyond = ((e < 0) & (s > 0)) | ((e > 0) & (s < 0)) | (s.isinf() & c.isfinite() & p.isfinite())
    return torch.where(beyond, torch.nextafter(s, zero), s)


@dataclass(frozen=True)
class Groups(Accumulation):
    """c_j+1 = round_32(c_j + RNE_32(sum of group j)): ``size`` products to a group, groups in their order along K.

    ``rounding`` of the running FP32 sum: 'toward_zero' (Blackwell, 258 of 258 probes) or 'nearest_even' (149 of 258).
    ``lattice`` n rounds the end result to multiples of 1/n, nearest-even; 0 leaves it (1024 and 0 both fit the probes).

    A group's sum is computed in float64 and rounded once. That is the exact sum rounded once wherever the group's
    products are multiples of some 2^e and at most 2^(e + 53) / size in magnitude: always for E2M1 with UE4M3 scales
    (multiples of 2^-20 up to 2^23), and for E8M0 and UE5M3 unless the scale products of one group differ by more than
    2^32. Decoded values with long mantissas (encode convention, FP32 scales) may round in float64 as well.
    A last group that is not full adds zeros. Overflow toward zero stops at the largest number.

    Cost: none, it is what the hardware does. Source: arXiv 2609.02846, Sec. 5 (the probe-matched GEMM model).
    Raises OptionError unless size >= 1, lattice >= 0 and the rounding is one of the two words.
    """

    size: int = 64
    rounding: str = "toward_zero"
    lattice: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise OptionError(f"groups.size must be at least 1, not {self.size}")
        if self.rounding not in ROUNDINGS:
            raise OptionError(f"groups.rounding cannot be {self.rounding!r}{nearest(self.rounding, ROUNDINGS)}")
        if self.lattice < 0:
            raise OptionError(f"groups.lattice must be at least 0 (0: none), not {self.lattice}")

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        add = add_toward_zero if self.rounding == "toward_zero" else torch.add
        pairs = zip(a.double().split(self.size, -1), b.double().split(self.size, -1), strict=True)
        partials = (product(x, y).float() for x, y in pairs)
        c: Tensor = next(partials)
        for p in partials:
            c = add(c, p)
        return (c if not self.lattice else (c * self.lattice).round() / self.lattice).to(a.dtype)

    def ops(self) -> Ops:
        return FREE
