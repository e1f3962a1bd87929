"""Statistics of a layer's input over calibration data: what post-training methods know about X."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.numerics.techniques.rotations import Rotation

_STEP, _CIRCLE = 2654435769, 2**32
"""The golden section of a circle of so many steps: whole turns of it lie evenly, wherever one stops."""


@dataclass(frozen=True, eq=False)
class RowSample:
    """At most ``keep`` rows of X [n, K], spread evenly over all that have been seen: no batch or position is preferred.

    ``places``: their numbers i among all rows of X, int64 [n], rising. The sample holds the rows whose i times the
    golden section, modulo 1, are smallest, so that it does not depend on how X came in parts, and a smaller sample is
    part of a larger one.
    """

    rows: Tensor
    places: Tensor
    keep: int

    @classmethod
    def of(cls, x: Tensor, start: int, keep: int) -> RowSample:
        """Of rows x [M, K] that follow ``start`` others."""
        return cls(x, torch.arange(start, start + len(x), device=x.device), keep).thinned(keep)

    def thinned(self, keep: int) -> RowSample:
        """A sample of at most ``keep`` of the same rows."""
        if len(self.rows) <= keep:
            return replace(self, keep=keep)
        order = self.places * _STEP % _CIRCLE
        chosen = order.topk(keep, largest=False).indices.sort().values
        return RowSample(self.rows[chosen], self.places[chosen], keep)

    def __add__(self, other: RowSample) -> RowSample:
        """Of the rows of both, ``other`` from later ones."""
        rows, places = torch.cat([self.rows, other.rows]), torch.cat([self.places, other.places])
        return RowSample(rows, places, self.keep).thinned(self.keep)


@dataclass(frozen=True, eq=False)
class InputStatistics:
    """Sums over the rows of X [M, K] that a layer has seen.

    - ``rows``: M; ``gram``: X^T X, float64 [K, K]: the Hessian of the layer's squared error in each row of W, halved;
    - ``largest``: max |X_j| per input feature, float64 [K]; ``mean``: the mean of |X_j|, float64 [K].

    - ``sample``: some rows of X themselves, float64, where a method has asked for them;
    - ``rotated``: whether they are of X R.

    Statistics of X / s and of X R follow from these without another look at the data, so that all methods and all
    configurations share one calibration. ``largest`` and ``mean`` stay those of the features before a rotation.
    """

    rows: int
    gram: Tensor
    largest: Tensor
    mean: Tensor
    sample: RowSample | None = None
    rotated: bool = False

    @property
    def size(self) -> Tensor:
        """How large each feature is [K]: the mean of |X_j|; after a rotation, the root of the mean square."""
        return (self.gram.diagonal() / max(1, self.rows)).sqrt() if self.rotated else self.mean

    @property
    def peaks(self) -> Tensor:
        """max |X_j| [K]; after a rotation, of the sample's rows, as nobody has looked at the others of X R."""
        return self.first(self.rows).abs().amax(0) if self.rotated else self.largest

    @classmethod
    def of(cls, x: Tensor, keep: int = 0, start: int = 0) -> InputStatistics:
        """Those of rows x [M, K], with ``keep`` of the rows as their sample; ``start`` rows came before these."""
        wide = x.detach().double()
        size = wide.abs()
        largest = size.amax(0) if len(x) else wide.new_zeros(x.shape[-1])
        sample = RowSample.of(wide, start, keep) if keep else None
        return cls(len(x), wide.mT @ wide, largest, size.sum(0) / max(1, len(x)), sample)

    def first(self, rows: int) -> Tensor:
        """That many rows of the sample [n, K], or as many as there are. Raises ValueError where none were kept."""
        if self.sample is None:
            raise ValueError("no rows of X were kept")
        return self.sample.thinned(rows).rows

    def __add__(self, other: InputStatistics) -> InputStatistics:
        """Those of the rows of both, with a sample where both have one; the other's starts after this one's rows."""
        rows = self.rows + other.rows
        mean = (self.mean * self.rows + other.mean * other.rows) / max(1, rows)
        sample = None if self.sample is None or other.sample is None else self.sample + other.sample
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
            sample=None if self.sample is None else replace(self.sample, rows=self.sample.rows / s),
        )

    def turned(self, rotation: Rotation, basis: Tensor) -> InputStatistics:
        """Those of X R: the Gram matrix becomes R^T X^T X R, padded as the rotation pads X."""
        extra = -self.gram.shape[-1] % rotation.size
        gram, basis = pad(self.gram, (0, extra, 0, extra)), basis.to(self.gram)
        sample = self.sample
        if sample is not None:
            sample = replace(sample, rows=rotation.turn(pad(sample.rows, (0, extra)), basis))
        gram = rotation.turn(rotation.turn(gram, basis).mT.contiguous(), basis)
        return replace(self, gram=gram, sample=sample, rotated=True)


__all__ = ["InputStatistics", "RowSample"]
