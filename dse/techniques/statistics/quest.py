"""QuEST's statistic: a multiple of the block's root mean square."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch import Tensor

from dse.errors import OptionError
from dse.ops import Ops
from dse.sqrt import sqrt
from dse.techniques.statistics.base import Statistic


@dataclass(frozen=True)
class Quest(Statistic):
    """Z = clip * sigma, sigma = sqrt(mean X^2): the clip that minimizes the error of a Gaussian block around zero.

    ``clip`` is in units of sigma, 2.92247856 for E2M1 (a step of .487079 sigma). Values beyond Z saturate; the trust
    mask that stops their gradient is ``slope: {straight_through: {outside: zero}}``. dZ/dX_k = clip X_k / (n sigma), 0
    where sigma is 0.

    The mean is not subtracted, as in QuEST. Quartet's released code subtracts it: after a Hadamard without signs a
    block's mean is its first feature, which then has no part in sigma, and a block in which the other features are 0
    (also the last one of K = 1 mod 32 features) is constant, has no deviation and is lost.

    Cost: 2 per element forward and backward. Source: arXiv 2502.05003 (QuEST) and its code; arXiv 2505.14669 (Quartet)
    for the clip. Raises OptionError unless clip > 0.
    """

    arithmetic: ClassVar[int] = 2

    clip: float = 2.92247856

    def __post_init__(self) -> None:
        if not self.clip > 0:
            raise OptionError(f"quest.clip must be positive, not {self.clip}")

    def value(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return self.clip * sqrt(x.square().mean(dims, keepdim=True)) + 6e-8

    def slope(self, x: Tensor, z: Tensor, dims: tuple[int, ...]) -> Tensor:
        n = prod(x.shape[d] for d in dims)
        sigma = sqrt(x.square().mean(dims, keepdim=True))
        return (self.clip * x / (n * sigma)).where(sigma > 0, 0.0)

    def ops(self) -> Ops:
        return Ops(element=2, block=4, why="2/element for squares and their sum, 4/block")

    def slope_ops(self) -> Ops:
        return Ops(element=2, block=3, why="2/element + 3/block for the dot product")
