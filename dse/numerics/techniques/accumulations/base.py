"""What an accumulation model is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from dse.numerics.ops import Ops


class Accumulation(ABC):
    """Computes a b^T from exact operands, before the tensor scales are applied."""

    @abstractmethod
    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """[..., M, K] x [..., N, K] -> [..., M, N], of ``a``'s dtype (float32 in training)."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost beyond the GEMM."""
