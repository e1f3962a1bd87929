"""What a rotation is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from dse.numerics.ops import Ops
from dse.numerics.random import Key


class Rotation(ABC):
    """An orthogonal map R on the contraction axis, applied to both operands: (A R)(B R)^T = A B^T."""

    size: int
    """Contiguous elements that are mixed; the contraction axis is padded with zeros to a multiple of it."""

    @abstractmethod
    def basis(self, like: Tensor, key: Key | None) -> Tensor:
        """What R depends on, such as drawn signs, of ``like``'s dtype and device; ``key`` is the GEMM's.

        [..., size]; leading axes, where drawing gives them, are members of a pack.
        """

    @abstractmethod
    def turn(self, x: Tensor, basis: Tensor) -> Tensor:
        """X R on every ``size`` consecutive elements: x [..., R, K], K a multiple of size."""

    @abstractmethod
    def back(self, x: Tensor, basis: Tensor) -> Tensor:
        """X R^T, the inverse: x [..., R, K], K a multiple of size."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost per operand."""

    def matrix(self, like: Tensor, key: Key | None) -> Tensor:
        """R itself [..., size, size], for analysis."""
        basis = self.basis(like, key)
        eye = torch.eye(self.size, dtype=like.dtype, device=like.device)
        return self.turn(eye.expand(*basis.shape[:-1], -1, -1), basis)
