"""What a tensor scale is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from dse.numerics.ops import FREE, Ops
from dse.numerics.random import Key


class TensorScale(ABC):
    """A second-level FP32 scale: the reference g that block scales are measured against.

    How g enters is the convention's affair. ``target`` is T, the block scale that the largest block gets in the decode
    convention (None: the largest value of the scale format, or 1 where that is as wide as FP32).
    """

    target: float | None

    @property
    def tensor_wide(self) -> bool:
        """True when there is one g per operand, which the GEMM's epilogue can apply."""
        return True

    @property
    def gradient(self) -> str:
        """'ignore' or 'exact': whether a gradient flows through g."""
        return "ignore"

    @property
    def remembers(self) -> bool:
        """True when g is held between steps in the layer's memory."""
        return False

    @abstractmethod
    def reference(self, peak: Tensor, key: Key | None) -> Tensor:
        """g from the blocks' largest magnitudes ``peak`` [..., R/t, 1, K/b, 1].

        Shape [..., 1, 1, 1, 1] when tensor-wide, else that of ``peak``.
        """

    @abstractmethod
    def ops(self) -> Ops:
        """Cost of finding and applying the factor."""

    def slope_ops(self) -> Ops:
        """Cost of the gradient through g."""
        return FREE
