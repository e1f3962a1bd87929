"""What a correction of block scales is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from dse.numerics.ops import Ops
from dse.numerics.techniques.rounding import Rounding


class Correction(ABC):
    """Multiplies the scales of blocks whose elements are rounded already, and rounds the scales once more.

    Elements stay; a block is decoded by its new scale. Gradients pass as if there was no correction.
    """

    @abstractmethod
    def rounding(self) -> Rounding:
        """How the products are rounded to the scale format."""

    @abstractmethod
    def factor(self, x: Tensor, y: Tensor, step: Tensor) -> Tensor:
        """c of every block, float64 [..., R/t, 1, K/b, 1].

        ``x``, ``y`` [..., R/t, t, K/b, b]: the operand and its decoded values before the correction; ``step``
        [..., R/t, 1, K/b, 1]: the value of an element 1 of each block.
        """

    @abstractmethod
    def ops(self) -> Ops:
        """Cost of the factors and of rounding the scales again."""
