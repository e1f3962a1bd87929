"""Statistics of a layer's input over calibration data: what post-training methods know about X."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.numerics.techniques.rotations import Rotation


@dataclass(frozen=True, eq=False)
class InputStatistics:
    """Sums over the rows of X [M, K] that a layer has seen.

    - ``rows``: M; ``gram``: X^T X, float64 [K, K]: the Hessian of the layer's squared error in each row of W, halved;
    - ``largest``: max |X_j| per input feature, float64 [K]; ``mean``: the mean of |X_j|, float64 [K].

    Statistics of X / s and of X R follow from these without another look at the data, so that all methods and all
    configurations share one calibration. ``largest`` and ``mean`` stay those of the features before a rotation.
    """

    rows: int
    gram: Tensor
    largest: Tensor
    mean: Tensor

    @classmethod
    def of(cls, x: Tensor) -> InputStatistics:
        """Those of rows x [M, K]."""
        wide = x.detach().double()
        size = wide.abs()
        largest = size.amax(0) if len(x) else wide.new_zeros(x.shape[-1])
        return cls(len(x), wide.mT @ wide, largest, size.sum(0) / max(1, len(x)))

    def __add__(self, other: InputStatistics) -> InputStatistics:
        """Those of the rows of both."""
        rows = self.rows + other.rows
        mean = (self.mean * self.rows + other.mean * other.rows) / max(1, rows)
        return InputStatistics(rows, self.gram + other.gram, torch.maximum(self.largest, other.largest), mean)

    def scaled(self, s: Tensor) -> InputStatistics:
        """Those of X / s, s [K]."""
        s = s.to(self.gram)
        return InputStatistics(self.rows, self.gram / s / s.unsqueeze(-1), self.largest / s, self.mean / s)

    def turned(self, rotation: Rotation, basis: Tensor) -> InputStatistics:
        """Those of X R: the Gram matrix becomes R^T X^T X R, padded as the rotation pads X."""
        extra = -self.gram.shape[-1] % rotation.size
        gram, basis = pad(self.gram, (0, extra, 0, extra)), basis.to(self.gram)
        return replace(self, gram=rotation.turn(rotation.turn(gram, basis).mT.contiguous(), basis))


__all__ = ["InputStatistics"]
