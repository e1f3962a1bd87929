"""What a rotation is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from dse.ops import Ops
from dse.random import Key


class Rotation(ABC):
    """An orthogonal map R on the contraction axis, applied to both operands: (A R)(B R)^T = A B^T."""

    size: int
    """Contiguous elements that are mixed; the contraction axis is padded with zeros to a multiple of it."""

    @abstractmethod
    def matrix(self, like: Tensor, key: Key | None) -> Tensor:
        """R, orthogonal [..., size, size], of ``like``'s dtype and device; ``key`` is the GEMM's."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost per operand."""


def rotate(x: Tensor, r: Tensor) -> Tensor:
    """X R on every ``size`` consecutive elements: x [..., R, K], r [..., size, size], K a multiple of size."""
    turned: Tensor = x.unflatten(-1, (-1, r.shape[-1])) @ r.unsqueeze(-3)
    return turned.flatten(-2)
