"""The law of mixed quantization: how the loss grows with the share of weights in few bits, their block, and N."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_OFFSETS = np.concatenate([[0.0], np.geomspace(0.25, 4096, 113)])
"""Values of d that are tried: 8 in an octave."""
_RESAMPLES = 1000


class Bounded(NamedTuple):
    """A fitted number with its 95 % bootstrap interval, whose ends are NaN with a single seed."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class MixedPoints:
    """Measured configurations: N [P], Q_r [P] in (0, 1], Q_b [P], and delta [P, S] by seed, NaN where unknown."""

    size: Array
    share: Array
    block: Array
    increase: Array


@dataclass(frozen=True)
class MixedLaw:
    """delta = C exp(A Q_r) N^-g (Q_b + d)^c, what the loss grows by.

    N: the number of weights; Q_r: the share of them at low precision; Q_b: elements that share a scale there. ``size``
    (g), ``block`` (c) and ``offset`` (d) are None where the sweep cannot tell: one size, one block, fewer than three
    blocks. ``points``: configurations of the fit; ``left_out``: those whose mean increase was not positive, which have
    no logarithm; ``spread``: root mean square of log delta's residuals.

    Source: arXiv 2410.06722 (Scaling Laws for Mixed Quantization), its law with block size, in the form in which a
    summary of it states the law: its own constants were not to be had.
    """

    constant: Bounded
    share: Bounded
    size: Bounded | None
    block: Bounded | None
    offset: Bounded | None
    points: int
    left_out: int
    spread: float

    def __call__(self, size: float, share: float, block: float) -> float:
        """delta; what the sweep could not tell takes no part."""
        found = self.constant.value * np.exp(self.share.value * share)
        found *= 1.0 if self.size is None else size**-self.size.value
        d = 0.0 if self.offset is None else self.offset.value
        return float(found * (1.0 if self.block is None else (block + d) ** self.block.value))


def fit_mixed_law(points: MixedPoints, seed: int = 0) -> MixedLaw:
    """The law by least squares in log delta of the means over seeds, d from a grid of eight values in an octave.

    Intervals are percentiles over 1,000 resamples of the seeds, drawn for all configurations alike, as one seed's
    trained model is the same for all; with few seeds they are too narrow, by the root of (S - 1) / S. Raises ValueError
    (why) where shares do not vary, where quantities vary together, and for too few configurations.
    """
    design, which = _design(points)
    means = np.nanmean(points.increase, axis=1)
    positive = means > 0
    parameters = design.shape[1] + which.offset
    if positive.sum() <= parameters:
        raise ValueError(f"{int(positive.sum())} configurations with a positive increase, {parameters} parameters")
    own, residuals = _solve(design[positive], points.block[positive], np.log(means[positive])[:, None], which)
    resampled = _resampled(design, points, which, seed)
    bounds = np.full((2, own.shape[0]), np.nan)
    if resampled.shape[1] > 1:
        bounds = np.percentile(resampled, [2.5, 97.5], axis=1)
    found = [Bounded(float(v), float(a), float(b)) for v, a, b in zip(own[:, 0], *bounds, strict=True)]
    constant, share, size, block, offset = which.spread(found)
    assert constant is not None
    assert share is not None
    return MixedLaw(
        Bounded(*(float(np.exp(value)) for value in constant)),
        share,
        size,
        block,
        offset,
        int(positive.sum()),
        int((~positive).sum()),
        float(np.sqrt(np.mean(residuals**2))),
    )


@dataclass(frozen=True)
class _Which:
    """Which terms the configurations can tell."""

    size: bool
    block: bool
    offset: bool

    def spread(self, found: Sequence[Bounded]) -> list[Bounded | None]:
        """log C and A, then what is known of g, c and d."""
        rest = iter(found[2:])
        return [*found[:2], *(next(rest) if getattr(self, f.name) else None for f in fields(self))]


def _design(points: MixedPoints) -> tuple[Array, _Which]:
    """Columns of log C, A, and g and c where they vary; c's is filled in with d."""
    sizes, shares, blocks = (len(np.unique(x)) for x in (points.size, points.share, points.block))
    if shares < 2:
        raise ValueError("the share of weights at low precision does not vary")
    which = _Which(sizes > 1, blocks > 1, blocks > 2)
    columns = [np.ones(len(points.share)), points.share]
    columns += [-np.log(points.size)] if which.size else []
    columns += [np.log(points.block)] if which.block else []
    design = np.stack(columns, axis=1)
    if np.linalg.matrix_rank(design - np.pad(design[:, 1:].mean(0), (1, 0))) < design.shape[1]:
        raise ValueError("share, size and block vary together")
    return design, which


def _solve(design: Array, block: Array, logs: Array, which: _Which) -> tuple[Array, Array]:
    """Parameters [n, B] and residuals [P, B] of the fits to each column of ``logs`` [P, B]."""
    best: tuple[Array, Array] | None = None
    for d in _OFFSETS if which.offset else _OFFSETS[:1]:
        own = design.copy()
        if which.block:
            own[:, -1] = np.log(block + d)
        found, *_ = np.linalg.lstsq(own, logs, rcond=None)
        residuals = logs - own @ found
        found = np.concatenate([found, np.full((int(which.offset), logs.shape[1]), d)])
        if best is None:
            best = found, residuals
        else:
            better = np.square(residuals).sum(0) < np.square(best[1]).sum(0)
            best = np.where(better, found, best[0]), np.where(better, residuals, best[1])
    assert best is not None
    return best


def _resampled(design: Array, points: MixedPoints, which: _Which, seed: int) -> Array:
    """Parameters [n, B] of resampled seeds; resamples that leave too few positive increases have no fit."""
    seeds, rows = points.increase.shape[1], design.shape[1]
    if seeds < 2:
        return np.empty((rows + which.offset, 0))
    draws = np.random.default_rng(seed).integers(seeds, size=(_RESAMPLES, seeds))
    counted = ~np.isnan(points.increase)
    sums = np.where(counted, points.increase, 0.0)[:, draws].sum(-1)
    counts = counted[:, draws].sum(-1)
    means = np.divide(sums, counts, out=np.full_like(sums, -1.0), where=counts > 0)  # [P, B]
    found = []
    masks, kind = np.unique(means > 0, axis=1, return_inverse=True)
    for number, mask in enumerate(masks.T):
        if mask.sum() > rows + which.offset and np.linalg.matrix_rank(design[mask]) == rows:
            logs = np.log(means[mask][:, kind.reshape(-1) == number])
            found.append(_solve(design[mask], points.block[mask], logs, which)[0])
    return np.concatenate(found, axis=1) if found else np.empty((rows + which.offset, 0))


__all__ = ["Bounded", "MixedLaw", "MixedPoints", "fit_mixed_law"]
