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

    - ``sample``: the first rows of X themselves [n, K], float64, where a method has asked for some;
    - ``rotated``: whether they are of X R.

    Statistics of X / s and of X R follow from these without another look at the data, so that all methods and all
    configurations share one calibration. ``largest`` and ``mean`` stay those of the features before a rotation.
    """

    rows: int
    gram: Tensor
    largest: Tensor
    mean: Tensor
    sample: Tensor | None = None
    rotated: bool = False

    @property
    def size(self) -> Tensor:
        """How large each feature is [K]: the mean of |X_j|; after a rotation, the root of the mean square."""
        return (self.gram.diagonal() / max(1, self.rows)).sqrt() if self.rotated else self.mean

    @classmethod
    def of(cls, x: Tensor, keep: int = 0) -> InputStatistics:
        """Those of rows x [M, K], with the first ``keep`` rows as their sample."""
        wide = x.detach().double()
        size = wide.abs()
        largest = size.amax(0) if len(x) else wide.new_zeros(x.shape[-1])
        sample = wide[:keep].clone() if keep else None
        return cls(len(x), wide.mT @ wide, largest, size.sum(0) / max(1, len(x)), sample)

    def first(self, rows: int) -> Tensor:
        """That many rows of the sample, or as many as there are. Raises ValueError where none were kept."""
        if self.sample is None:
            raise ValueError("no rows of X were kept")
        return self.sample[:rows]

    def __add__(self, other: InputStatistics) -> InputStatistics:
        """Those of the rows of both."""
        rows = self.rows + other.rows
        mean = (self.mean * self.rows + other.mean * other.rows) / max(1, rows)
        samples = [part for part in (self.sample, other.sample) if part is not None]
        sample = torch.cat(samples) if samples else None
        largest = torch.maximum(self.largest, other.largest)
        return InputStatistics(rows, self.gram + other.gram, largest, mean, sample)

    def scaled(self, s: Tensor) -> InputStatistics:
        """Those of X / s, s [K]."""
        s = s.to(self.gram)
        return replace(
            self,
            gram=self.gram / s / s.unsqueeze(-1),
            largest=self.largest / s,
            mean=self.mean / s,
            sample=None if self.sample is None else self.sample / s,
        )

    def turned(self, rotation: Rotation, basis: Tensor) -> InputStatistics:
        """Those of X R: the Gram matrix becomes R^T X^T X R, padded as the rotation pads X."""
        extra = -self.gram.shape[-1] % rotation.size
        gram, basis = pad(self.gram, (0, extra, 0, extra)), basis.to(self.gram)
        sample = None if self.sample is None else rotation.turn(pad(self.sample, (0, extra)), basis)
        gram = rotation.turn(rotation.turn(gram, basis).mT.contiguous(), basis)
        return replace(self, gram=gram, sample=sample, rotated=True)


__all__ = ["InputStatistics"]
