"""The largest magnitude of a block."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dse.ops import Ops
from dse.techniques.statistics.base import Statistic


@dataclass(frozen=True)
class AbsMax(Statistic):
    """Z = max_i |X_i|, treated as a constant in the backward pass (``smooth: STE`` in arXiv 2509.17791).

    Cost: abs and max, 2 per element. NaN anywhere in the block gives NaN.
    """

    @property
    def is_constant(self) -> bool:
        return True

    def __call__(self, x: Tensor) -> Tensor:
        return x.detach().abs().amax((-3, -1), keepdim=True)

    def ops(self) -> Ops:
        return Ops(element=2, why="abs and max, 2/element")
