"""What a slope is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from dse.formats import Format
from dse.ops import Ops


class Slope(ABC):
    """A surrogate for dQ/du, a function of the point alone."""

    @property
    def is_identity(self) -> bool:
        """True when the slope is 1 everywhere, so that the backward pass can skip it."""
        return False

    @abstractmethod
    def __call__(self, u: Tensor, fmt: Format) -> Tensor:
        """Q'(u), the shape of ``u`` (scaled values, before the cast)."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost in the backward pass."""
