"""QuEST's statistic: a multiple of the block's deviation."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.kernels.sqrt import sqrt
from dse.numerics.ops import Ops
from dse.numerics.techniques.statistics.base import Statistic
from dse.numerics.tree import total


@dataclass(frozen=True)
class Quest(Statistic):
    """Z = clip * sigma: the clip that minimizes the error of a Gaussian block. sigma = sqrt(mean X^2), as in QuEST.

    ``clip`` is in units of sigma, 2.92247856 for E2M1 (a step of .487079 sigma). Values beyond Z saturate; the trust
    mask that stops their gradient is ``slope: {straight_through: {outside: zero}}``. ``centered``: sigma^2 = mean X^2 -
    (mean X)^2, as in Quartet's released kernels. After a Hadamard without signs a block's mean is its first feature,
    which then has no part in sigma; a block in which the others are 0 (also the last one of K = 1 mod 32 features) is
    constant, has no deviation and would be lost, so that its root mean square stands for it. dZ/dX_k = clip (X_k - mean
    or 0) / (n sigma), 0 where sigma is 0. Sums are those of ``dse.numerics.tree``.

    Cost: 2 per element forward and backward, 5 where centered. Source: arXiv 2502.05003 (QuEST) and its code;
    arXiv 2505.14669 (Quartet) and its kernels for the clip and the mean. Raises OptionError unless clip > 0.
    """

    arithmetic: ClassVar[int] = 3

    clip: float = 2.92247856
    centered: bool = False

    def __post_init__(self) -> None:
        if not self.clip > 0:
            raise OptionError(f"quest.clip must be positive, not {self.clip}")

    def value(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        _, square = self._moments(x, dims)
        return self.clip * sqrt(square) + 6e-8

    def slope(self, x: Tensor, z: Tensor, dims: tuple[int, ...]) -> Tensor:
        n = prod(x.shape[d] for d in dims)
        mean, square = self._moments(x, dims)
        sigma = sqrt(square)
        return (self.clip * (x - mean) / (n * sigma)).where(sigma > 0, 0.0)

    def _moments(self, x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The mean that is subtracted (0: none), and sigma^2."""
        square = _mean(x.square(), dims)
        if not self.centered:
            return torch.zeros_like(square), square
        mean = _mean(x, dims)
        variance = square - mean.square()
        constant = variance <= prod(x.shape[d] for d in dims) * torch.finfo(x.dtype).eps * square  # rounding alone
        return mean.where(~constant, 0.0), torch.where(constant, square, variance)

    def ops(self) -> Ops:
        if self.centered:
            return Ops(element=5, block=6, why="5/element for mean and deviation, 6/block")
        return Ops(element=2, block=4, why="2/element for squares and their sum, 4/block")

    def slope_ops(self) -> Ops:
        if self.centered:
            return Ops(element=5, block=3, why="5/element + 3/block for the dot product")
        return Ops(element=2, block=3, why="2/element + 3/block for the dot product")


def _mean(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The tree's sum, divided: CUDA multiplies by 1 / n where n is a number."""
    n = prod(x.shape[d] for d in dims)
    return total(x, dims) / torch.full((), n, dtype=x.dtype, device=x.device)
