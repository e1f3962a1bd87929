"""Scales that are kept out of an operand's values, so that these stay exact in BF16: of rows, or of groups of K.

A product multiplies values, and scales the partial sums of each group of the contraction axis in FP32; those of whole
rows are applied in the epilogue. Source: TransformerEngine #2931 (per row); arXiv 2412.19437, Sec. 3.3.2 (groups).
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

from torch import Tensor


class SumFactors(NamedTuple):
    """Scales of an operand [..., R, K].

    ``scales`` float32 [..., F, R], contiguous: one for each row and each ``group`` consecutive elements of K, the last
    of which may be cut; ``group`` 0: of all of a row, F = 1.
    """

    scales: Tensor
    group: int

    def times(self, values: Tensor) -> Tensor:
        """``values`` [..., R, K] times their scales, in FP32."""
        columns, each = values.shape[-1], self.scales.mT
        if self.group and columns % self.group:
            return values.float() * each.repeat_interleave(self.group, -1)[..., :columns]
        grouped = values.unflatten(-1, (-1, self.group or columns))
        product: Tensor = grouped * each.unsqueeze(-1)  # of BF16 and FP32: FP32
        return product.flatten(-2)

    def of_members(self, some: slice) -> SumFactors:
        """The same of ``some`` operands."""
        return self._replace(scales=self.scales[some])


Pair = tuple[SumFactors | None, SumFactors | None]
"""Of both operands of a product."""
NO_FACTORS: Pair = (None, None)


def shared_group(factors: Pair) -> int:
    """Elements of the contraction axis under one scale of each operand; 0: all."""
    return gcd(*(0 if own is None else own.group for own in factors))


__all__ = ["NO_FACTORS", "Pair", "SumFactors", "shared_group"]
