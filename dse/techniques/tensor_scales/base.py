"""What a tensor scale is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from dse.formats import Format
from dse.ops import Ops


class TensorScale(ABC):
    """One factor per operand that moves its block scales into the range of the scale format."""

    @abstractmethod
    def __call__(self, z: Tensor, scale: Format, constant: float) -> Tensor:
        """The encode factor S_enc [..., 1, 1, 1, 1] from the block statistics ``z`` [..., R/t, 1, K/b, 1].

        ``constant`` is the element value that a block's Z is mapped to (6 for E2M1).
        """

    @abstractmethod
    def ops(self) -> Ops:
        """Cost of finding and applying the factor."""
