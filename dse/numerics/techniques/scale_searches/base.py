"""What a search of weight scales is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.fixed_scales import FixedScales
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.ops import FREE, Ops
from dse.numerics.techniques.statistics import Statistic


class ScaleSearch(ABC):
    """Chooses the block scales of a trained weight, once, in place of those that its quantizer takes from the maximum.

    Blocks keep their size, and their format but where ``grids`` says that the search chooses that as well: nothing
    changes at inference. ``arithmetic``: see ``dse.numerics.registry``.
    """

    arithmetic: ClassVar[int] = 1
    grids: ClassVar[bool] = False

    @property
    def data(self) -> bool:
        """Whether the search looks at X."""
        return False

    def check(self, quantizer: BlockQuantizer) -> None:
        """Raises OptionError where the search has no meaning for a quantizer of W."""
        if quantizer.choice is not None:
            raise OptionError("post.scales: the search chooses one scale per block, and fprop.rhs.choice tries several")

    def beside(self, quantizer: BlockQuantizer, outputs: int, inputs: int) -> int:
        """Bits that a W [N, K] keeps beside its elements and scales, as far as its shape says."""
        return 0

    def stored(self, quantizer: BlockQuantizer, w: Tensor) -> int:
        """Those of this W."""
        return self.beside(quantizer, *w.shape)

    @abstractmethod
    def scales(self, quantizer: BlockQuantizer, w: Tensor, inputs: InputStatistics | None) -> FixedScales:
        """The scales of W [N, K], already balanced and rotated; ``inputs``: of X, equally so, where it is known."""

    def ops(self) -> Ops:
        return FREE


class GivenStatistic(Statistic):
    """Z as a tensor, one per block of one operand [R/t, 1, K/b, 1]: what a search has found."""

    counts_zeros: ClassVar[bool] = False

    def __init__(self, z: Tensor) -> None:
        self.z = z

    def value(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return self.z.to(x.dtype)

    def slope(self, x: Tensor, z: Tensor, dims: tuple[int, ...]) -> Tensor:
        return torch.zeros_like(x)

    def ops(self) -> Ops:
        return FREE

    def slope_ops(self) -> Ops:
        return FREE
