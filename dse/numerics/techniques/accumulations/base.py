"""What an accumulation model is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from dse.numerics.matmul import finished, scaled
from dse.numerics.ops import Ops
from dse.numerics.quantizer import Quantized


class Accumulation(ABC):
    """Computes a b^T from exact operands, before the tensor scales are applied.

    ``arithmetic``: see ``dse.numerics.registry``.
    """

    arithmetic: ClassVar[int] = 1

    @abstractmethod
    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """[..., M, K] x [..., N, K] -> [..., M, N], of ``a``'s dtype, or float32 for bfloat16 operands."""

    def contract(
        self, a: Quantized, b: Quantized, bias: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """The product with its epilogue: tensor scales, ``bias`` [..., N], one rounding to ``dtype`` (None: none)."""
        return finished(scaled(self.product(a.folded().values, b.folded().values), a, b), bias, dtype)

    @abstractmethod
    def ops(self) -> Ops:
        """Cost beyond the GEMM."""
