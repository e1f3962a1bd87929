"""The largest magnitude of a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dse.numerics.ops import Ops
from dse.numerics.techniques.statistics.base import Statistic


@dataclass(frozen=True)
class AbsMax(Statistic):
    """Z = max_i |X_i|; dZ/dX_k = sign(X_k) [k = argmax], the first one among equals.

    With the scale's gradient 'constant' this is ``smooth: STE`` of arXiv 2509.17791, with 'full' its ``absmax``.
    NaN anywhere in the block gives NaN. Cost: abs and max, 2 per element; 5 + 3/b backward.
    Source: OCP MX v1.0, 6.3; arXiv 2509.17791, Sec. 5.
    """

    counts_zeros: ClassVar[bool] = False

    def value(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return x.abs().amax(dims, keepdim=True)

    def slope(self, x: Tensor, z: Tensor, dims: tuple[int, ...]) -> Tensor:
        top = x.abs() == z
        moved = top.movedim(dims, tuple(range(-len(dims), 0)))
        flat = moved.flatten(-len(dims))
        first = (flat & (flat.cumsum(-1) == 1)).view(moved.shape).movedim(tuple(range(-len(dims), 0)), dims)
        return x.sign() * first

    def ops(self) -> Ops:
        return Ops(element=2, why="abs and max, 2/element")

    def slope_ops(self) -> Ops:
        return Ops(element=5, block=3, why="5/element + 3/block for the dot product and the scatter")
