"""What post-training methods make of a layer: its operand, and what else they decide about its product."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dse.numerics.formats import Format
from dse.numerics.grid import round_to_grid
from dse.numerics.quantizer import Quantized
from dse.numerics.techniques.branches import ThinFactors


class StaticInput(NamedTuple):
    """f(X) = Q(X c / s) s / c: one scale s [1, 1] for all of X, found before, and powers of two c [K] per feature.

    1 / c belongs to the weight of a feature, as an exponent's shift.
    """

    element: Format
    scale: Tensor
    shift: Tensor

    def __call__(self, x: Tensor) -> Quantized:
        """f(X) for X [M, K]."""
        return Quantized(round_to_grid(x * self.shift / self.scale, self.element) / self.shift, self.scale)


class PostOperands(NamedTuple):
    """A quantized weight [N, K], how X is quantized where the method decides that, and a branch, where there is one.

    ``element``: W's, where the method has chosen one; ``bits``: what the weight keeps beside its elements and scales.
    """

    weight: Quantized
    static: StaticInput | None = None
    low_rank: ThinFactors | None = None
    element: Format | None = None
    bits: int = 0


__all__ = ["PostOperands", "StaticInput"]
