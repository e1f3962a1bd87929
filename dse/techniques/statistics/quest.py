"""QuEST's statistic: a multiple of the block's standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor

from dse.errors import OptionError
from dse.ops import Ops
from dse.sqrt import sqrt
from dse.techniques.statistics.base import Statistic


@dataclass(frozen=True)
class Quest(Statistic):
    """Z = clip * sigma, sigma = sqrt(mean X^2 - (mean X)^2): the clip that minimizes a Gaussian block's error.

    ``clip`` is in units of sigma, 2.92247856 for E2M1 (a step of .487079 sigma). Values beyond Z saturate; the trust
    mask that stops their gradient is ``slope: {straight_through: {outside: zero}}``. Zeros that pad the last block of
    an operand take part in its sigma. dZ/dX_k = clip (X_k - mean) / (n sigma), 0 where sigma is 0.

    Cost: 5 per element forward and backward. Source: arXiv 2505.14669 (Quartet); arXiv 2502.05003 (QuEST).
    Raises OptionError unless clip > 0.
    """

    clip: float = 2.92247856

    def __post_init__(self) -> None:
        if not self.clip > 0:
            raise OptionError(f"quest.clip must be positive, not {self.clip}")

    def value(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        mean = x.mean(dims, keepdim=True)
        return self.clip * sqrt((x.square().mean(dims, keepdim=True) - mean.square()).clamp_min(0)) + 6e-8

    def slope(self, x: Tensor, z: Tensor, dims: tuple[int, ...]) -> Tensor:
        n = prod(x.shape[d] for d in dims)
        sigma = (z - 6e-8) / self.clip
        centered = x - x.mean(dims, keepdim=True)
        return (self.clip * centered / (n * sigma)).where(sigma > 0, 0.0)

    def ops(self) -> Ops:
        return Ops(element=5, block=4, why="5/element for mean and square, 4/block")

    def slope_ops(self) -> Ops:
        return Ops(element=5, block=3, why="5/element + 3/block")
