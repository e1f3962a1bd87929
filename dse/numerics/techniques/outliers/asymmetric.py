"""Separate scales for positive and negative elements."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.numerics.ops import Ops
from dse.numerics.techniques.outliers.base import Outliers, Parts


@dataclass(frozen=True)
class Asymmetric(Outliers):
    """f(X) = f(max(X, 0)) + f(min(X, 0)): each block has one scale for its positive and one for its negative elements.

    Cost: one more abs-max and scale per block, and a select per element. Source: arXiv 2411.09909 (AMXFP4).
    """

    def split(self, x: Tensor) -> Parts:
        negative = x < 0  # a zero belongs to one part only, or its gradient would count twice
        return Parts((torch.where(negative, 0.0, x), torch.where(negative, x, 0.0)))

    def ops(self) -> Ops:
        return Ops(element=2, block=3, why="2/element to split and select, a second scale 3/block")
