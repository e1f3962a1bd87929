"""Fits the constants of the time model to measured points, and compares all points with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from dse.cost.check.measured import MeasuredPoint, measured_points
from dse.cost.check.predict import predicted, seconds
from dse.cost.roofline.constants import FITTED, Constants, constants


class Compared(NamedTuple):
    """A measured point and what the model says."""

    point: MeasuredPoint
    predicted: float

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted / self.point.value - 1


def fitted(points: Sequence[MeasuredPoint] | None = None, start: Constants | None = None) -> Constants:
    """The constants of ``FITTED`` with the least squared logarithm of predicted over measured, on points to fit."""
    from scipy.optimize import least_squares

    own = constants() if start is None else start
    chosen = [point for point in (measured_points() if points is None else points) if point.fit]

    def with_logs(logs: Sequence[float]) -> Constants:
        return own.model_copy(update=dict(zip(FITTED, map(math.exp, logs), strict=True)))

    def residuals(logs: Sequence[float]) -> list[float]:
        here = with_logs(logs)
        return [math.log(predicted(point, here) / point.value) for point in chosen]

    begin = [math.log(getattr(own, name)) for name in FITTED]
    found = least_squares(residuals, begin, x_scale=0.1, diff_step=1e-3)
    return with_logs([float(x) for x in found.x])


def compared(own: Constants | None = None) -> list[Compared]:
    """All measured points with the model's values."""
    here = constants() if own is None else own
    return [Compared(point, predicted(point, here)) for point in measured_points()]


class Agreement(NamedTuple):
    """How well predictions agree with measurements: median of |error|, Spearman's rank correlation, points."""

    error: float
    rank: float
    points: int


def agreement(rows: Iterable[Compared]) -> Agreement:
    """Over the times of the points; the rank correlation is NaN for fewer than three."""
    from scipy.stats import spearmanr

    own = list(rows)
    pairs = [(seconds(row.point, row.predicted), seconds(row.point, row.point.value)) for row in own]
    rank = float(spearmanr(*zip(*pairs, strict=True)).statistic) if len(own) > 2 else math.nan
    return Agreement(median(abs(row.error) for row in own), rank, len(own))


__all__ = ["Agreement", "Compared", "agreement", "compared", "fitted"]
