"""What outlier handling is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dse.numerics.ops import Ops


class Parts(NamedTuple):
    """X = sum of the quantized parts + a remainder kept in high precision (None: nothing)."""

    quantized: tuple[Tensor, ...]
    remainder: Tensor | None = None


class Outliers(ABC):
    """Splits an operand into parts that are block-quantized apart and summed, and a remainder that is not quantized."""

    @property
    def straight_through(self) -> bool:
        """True when the parts and the remainder sum to X, so that the identity gradient stays the identity."""
        return True

    @abstractmethod
    def split(self, x: Tensor) -> Parts:
        """``x`` [..., R, K], all parts of the same shape."""

    def joined(self, x: Tensor, gradients: Sequence[Tensor], g: Tensor) -> Tensor:
        """The gradient of ``x`` from those of the quantized parts, and of the remainder (g): that of ``split``."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            parts = self.split(leaf)
            pieces, incoming = [*parts.quantized], [*gradients]
            if parts.remainder is not None:
                pieces.append(parts.remainder)
                incoming.append(g)
            return torch.autograd.grad(pieces, leaf, incoming)[0]

    @abstractmethod
    def ops(self) -> Ops:
        """Cost per element."""
