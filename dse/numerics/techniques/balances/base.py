"""What a balance is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.ops import Ops


class Balance(ABC):
    """Moves range between activations and weights: (X / s)(W s)^T = X W^T, with a factor s per input feature.

    W s is quantized once, X / s before every product; a rotation acts after it. ``arithmetic``: see
    ``dse.numerics.registry``.
    """

    arithmetic: ClassVar[int] = 1

    @abstractmethod
    def factors(self, quantizer: BlockQuantizer, w: Tensor, inputs: InputStatistics) -> Tensor:
        """s > 0, float64 [K], for W [N, K]; ``quantizer``: of W."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost at inference, per element of X."""
