"""What a rounding mode is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from dse.numerics.ops import Ops


class Rounding(ABC):
    """Maps a lattice coordinate v = u / step to a neighboring integer; an odd function, zero keeps its sign."""

    @property
    def random_bits(self) -> int:
        """Random bits needed per element; 0 for a deterministic mode."""
        return 0

    @abstractmethod
    def lattice(self, v: Tensor, bits: Tensor | None) -> Tensor:
        """A fresh tensor. ``v``: any shape; ``bits``: integers in [0, 2^random_bits) of the same shape, or None."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost beyond a plain nearest-even cast."""
