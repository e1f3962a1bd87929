"""What a block statistic is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from dse.ops import Ops


class Statistic(ABC):
    """Z(X_p) of a block, with the gradient that its file states."""

    @property
    def is_constant(self) -> bool:
        """True when no gradient flows through the statistic."""
        return False

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """``x``: blocked operand [..., R/t, t, K/b, b]; returns Z [..., R/t, 1, K/b, 1]."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost of the statistic and of its gradient."""
