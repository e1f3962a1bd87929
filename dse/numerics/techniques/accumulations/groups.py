"""Accumulation in groups, as Blackwell's FP4 tensor cores do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dse import kernels
from dse.errors import OptionError, nearest
from dse.numerics.matmul import product
from dse.numerics.ops import FREE, Ops
from dse.numerics.quantizer import Quantized
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


def in_order(a: Tensor, b: Tensor) -> Tensor:
    """a [..., M, K], b [..., N, K] -> a b^T [..., M, N]: products are added one by one from 0, in order along K."""
    total = a.new_zeros(()).expand(*torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-2])
    for x, y in zip(a.unbind(-1), b.unbind(-1), strict=True):
        total = total + x.unsqueeze(-1) * y.unsqueeze(-2)
    return total


def exact_in_float64(a: Tensor, b: Tensor, terms: int) -> bool:
    """Whether sums of ``terms`` products of elements of float32 or bfloat16 tensors are exact in float64 in any order.

    False also where that cannot be looked at: on a GPU, which would wait, and under a transform or while compiling.
    """
    if (
        a.dtype == torch.float64
        or a.device.type != "cpu"
        or torch.compiler.is_compiling()
        or not (_seen(a) and _seen(b))
    ):
        return False
    if 0 in (a.numel(), b.numel()):
        return True
    (a_least, a_most), (b_least, b_most) = _span(a.float()), _span(b.float())
    return terms * a_most * b_most <= 2.0**53 * a_least * b_least


def _seen(x: Tensor) -> bool:
    """Whether a tensor has values of its own, and is not a transform's."""
    try:
        x.data_ptr()
    except RuntimeError:
        return False
    return True


def _span(x: Tensor) -> tuple[float, float]:
    """The lowest bit that is set in any element of a float32 tensor, as a number, and the largest magnitude."""
    bits = x.contiguous().view(torch.int32)
    exponent = (bits >> 23) & 0xFF
    mantissa = (bits & 0x7FFFFF) | ((exponent > 0).int() << 23)
    power = ((exponent.clamp(min=1) - 150 + 1023).long() << 52).view(torch.float64)
    lowest = (mantissa & -mantissa).double() * power
    return float(torch.where(mantissa > 0, lowest, torch.inf).min()), float(x.abs().max())


@dataclass(frozen=True)
class Groups(Accumulation):
    """c_j+1 = round_32(c_j + RNE_32(sum of group j)): ``size`` products to a group, groups in their order along K.

    ``rounding`` of the running FP32 sum: 'toward_zero' (Blackwell, 258 of 258 probes) or 'nearest_even' (149 of 258).
    ``lattice`` n rounds the end result to multiples of 1/n, nearest-even; 0 leaves it (1024 and 0 both fit the probes).

    A group's products are added in float64, one by one from 0 in their order, and the sum is rounded once. That is the
    exact sum rounded once wherever the group's products are multiples of some 2^e and at most 2^(e + 53) / size in
    magnitude: always for E2M1 with UE4M3 scales (multiples of 2^-20 up to 2^23), and for E8M0 and UE5M3 unless the
    scale products of one group differ by more than 2^32. There a library's product is taken, which may add in any
    order. Decoded values with long mantissas (encode convention, FP32 scales) may round in float64 as well.
    A last group that is not full adds zeros. Overflow toward zero stops at the largest number. Operands in float64
    have products that are rounded too.

    Cost: none, it is what the hardware does. Source: arXiv 2609.02846, Sec. 5 (the probe-matched GEMM model).
    Raises OptionError unless size >= 1, lattice >= 0 and the rounding is one of the two words.
    """

    arithmetic: ClassVar[int] = 2

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
        sums = product if exact_in_float64(a, b, self.size) else in_order
        pairs = zip(a.double().split(self.size, -1), b.double().split(self.size, -1), strict=True)
        partials = (sums(x, y).float() for x, y in pairs)
        c: Tensor = next(partials)
        for p in partials:
            c = add(c, p)
        c = c if not self.lattice else (c * self.lattice).round() / self.lattice
        return c.to(torch.promote_types(a.dtype, torch.float32))

    def contract(
        self, a: Quantized, b: Quantized, bias: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        a, b = a.folded(), b.folded()
        x, y = a.values, b.values
        stacked = x.dim() == y.dim() == 3 and len(x) == len(y)
        if not (stacked and x.dtype != torch.float64 and kernels.takes(x)):
            return super().contract(a, b, bias, dtype)
        how = kernels.Grouping(self.size, self.rounding == "toward_zero", self.lattice)
        return kernels.grouped(x, y, how, (a.alpha, b.alpha), bias, torch.float32 if dtype is None else dtype)

    def ops(self) -> Ops:
        return FREE
