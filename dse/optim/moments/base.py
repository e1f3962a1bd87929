"""What a storage format of an optimizer's moments is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from dse.numerics.ops import Ops
from dse.optim.layout import Layout


class MomentFormat(ABC):
    """How a moment of E members is kept between steps: rounded after the step that has used it unrounded.

    Emulated: the buffer stays in its dtype and holds decoded values. What is zero (padding included) stays zero, and no
    row depends on another.
    """

    bits: ClassVar[float]
    """Per parameter where it is stored, scales of blocks included; those of whole parameters are left out."""

    @abstractmethod
    def stored(self, x: Tensor, layout: Layout) -> Tensor:
        """The decoded values [E, P] of a moment x [E, P]; ``layout``: of its columns. x is left alone."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost per parameter and step."""
