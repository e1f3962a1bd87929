"""Loss laws of a sweep: the law of its unquantized trials, and what each recipe leaves of parameters and tokens.

Intervals come from DRAWS resamplings of complete seeds: a draw moves the means over seeds, at all points and of all
recipes at once, by the seeds' deviations with normal weights, over a chi with the seeds' degrees of freedom, and fits
everything anew. So with few seeds an interval is as wide as a t-interval (``dse.report.analysis.front_draws``), which
a bootstrap that draws three seeds of three is not. They are symmetric: half the width is the distance from the estimate
that 95 % of the draws keep, since the shares of draws lean to one side where the law's exponents are little known.
Source: Hall, On symmetric bootstrap confidence intervals (1988).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from dse.report.analysis.law_points import LEAST, GridPoint, LossGrid, large_enough, loss_grids
from dse.report.analysis.loss_law import FREE, EffectiveShares, LossLaw, fit_law, fit_shares
from dse.report.analysis.published_laws import PublishedShares, measured_gap, shares_of
from dse.report.analysis.tidy import TidyTable
from dse.stats import CONFIDENCE

if TYPE_CHECKING:
    from dse.report.analysis.rank_correlation import FloatArray

DRAWS = 200
LARGE = (1e9, 8e9)
"""Parameters of the models that gaps are extrapolated to."""
TOKENS_PER_PARAMETER = 20
_UNBOUNDED = 1e4


@dataclass(frozen=True)
class BoundedInterval:
    """A value with its 95 % interval, NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class MeasuredExcess:
    """A recipe's loss over the baseline's at a point, less 1: the mean over seeds of its logarithm, and the law's."""

    at: GridPoint
    measured: float
    fitted: float


@dataclass(frozen=True)
class RecipeLaw:
    """What a configuration leaves of parameters and tokens (at most 1), and its gaps at the sizes of LARGE, as shares
    of the baseline's loss.

    ``free``: the fit without the bound of 1; ``seeds``: the fewest of a point; ``left_out``: points at which a seed
    diverged; ``published``, ``measured``: published shares, and a published gap at 8B parameters.
    """

    config: str
    parameters: BoundedInterval
    tokens: BoundedInterval
    free: EffectiveShares
    gaps: tuple[BoundedInterval, ...]
    excess: tuple[MeasuredExcess, ...]
    seeds: int
    left_out: int
    published: PublishedShares | None
    measured: float | None


@dataclass(frozen=True)
class TaskLaw:
    """The law of one task in several sizes. ``law`` is None where ``why`` says what it lacks.

    ``losses``: the baseline's points with their mean losses; ``misfit``: root mean square of what the law misses there,
    as a share of the loss; ``unfitted``: configurations with too few points.
    """

    task: str
    baseline: str
    law: LossLaw | None
    why: str
    losses: tuple[tuple[GridPoint, float], ...] = ()
    misfit: float = math.nan
    recipes: tuple[RecipeLaw, ...] = ()
    unfitted: tuple[str, ...] = ()

    @property
    def beyond(self) -> float:
        """How many times larger than the largest model the first of LARGE is."""
        return LARGE[0] / max(at.parameters for at, _ in self.losses)

    @property
    def typical(self) -> float:
        """The median recipe's mean loss over the baseline's, as a share of it; NaN without recipes."""
        means = [math.fsum(point.measured for point in own.excess) / len(own.excess) for own in self.recipes]
        return median(means) if means else math.nan

    @property
    def rising(self) -> list[int]:
        """The sizes whose baseline loses more with more tokens somewhere, as a text learned by heart makes it do: the
        law falls everywhere."""
        pairs = pairwise(self.losses)  # by size, then tokens
        found = (a.parameters for (a, low), (b, high) in pairs if a.parameters == b.parameters and high > low)
        return list(dict.fromkeys(found))


@dataclass(frozen=True)
class _BaseFit:
    """The law of a grid's baseline, those of the draws (none where a point has a single seed), and what the draws do:
    normal weights [draw, seed] and the factor [draw, 1] that makes a t-distribution of them."""

    law: LossLaw
    moved: list[LossLaw]
    weights: FloatArray
    spread: FloatArray


def task_laws(table: TidyTable, draws: int = DRAWS) -> list[TaskLaw]:
    """One per task that the sweep has in several sizes with several token budgets; recipes worth most first."""
    return [task_law(grid, draws) for grid in loss_grids(table)]


def task_law(grid: LossGrid, draws: int = DRAWS) -> TaskLaw:
    """The law of one grid."""
    import numpy as np

    points = grid.points(grid.baseline)
    if not large_enough(points):
        asked = f"it has {FREE} constants and asks for {LEAST} sizes with {LEAST} token budgets each"
        return TaskLaw(grid.task, grid.baseline, None, f"{asked}, and {grid.baseline} has not finished at so many.")
    base = _log_losses(grid, grid.baseline, points)
    n, d = _axes(points)
    mean = np.nanmean(base, axis=0)
    fit = _base_fit(base, n, d, draws)
    misfit = float(np.sqrt(np.mean((np.log(fit.law.loss(n, d)) - mean) ** 2)))
    recipes, unfitted = [], []
    for config in grid.losses:
        mine = [at for at in grid.points(config) if at in set(points)]
        if config == grid.baseline:
            continue
        if not large_enough(mine):
            unfitted.append(config)
            continue
        ratio = _log_losses(grid, config, mine) - base[:, [points.index(at) for at in mine]]
        if np.isnan(ratio).all(axis=0).any():
            unfitted.append(config)
            continue
        recipes.append(_recipe(grid, config, mine, ratio, fit))
    recipes.sort(key=lambda one: -(one.parameters.value * one.tokens.value))
    losses = tuple(zip(points, np.exp(mean).tolist(), strict=True))
    return TaskLaw(grid.task, grid.baseline, fit.law, "", losses, misfit, tuple(recipes), tuple(unfitted))


def _base_fit(base: FloatArray, n: FloatArray, d: FloatArray, draws: int) -> _BaseFit:
    import numpy as np

    mean = np.nanmean(base, axis=0)
    law = fit_law(n, d, np.exp(mean))
    weights, spread = _weights(len(base), draws)
    rows = [] if _unknown_noise(base) else mean + weights @ _residuals(base) * spread
    return _BaseFit(law, [fit_law(n, d, np.exp(row), law) for row in rows], weights, spread)


def _recipe(grid: LossGrid, config: str, points: list[GridPoint], ratio: FloatArray, fit: _BaseFit) -> RecipeLaw:
    import numpy as np

    law, (n, d) = fit.law, _axes(points)
    mean = np.nanmean(ratio, axis=0)
    shares = fit_shares(law, n, d, mean)
    drawn: list[list[float]] = []
    if fit.moved and not _unknown_noise(ratio):
        rows = mean + fit.weights @ _residuals(ratio) * fit.spread
        for own, row in zip(fit.moved, rows, strict=True):
            found = fit_shares(own, n, d, row, start=shares)
            drawn.append([found.parameters, found.tokens, *_gaps(own, found)])
    values = [shares.parameters, shares.tokens, *_gaps(law, shares)]
    near = np.quantile(np.abs(np.subtract(drawn, values)), CONFIDENCE, axis=0).tolist() if drawn else ()
    most = [1.0, 1.0, *(math.inf for _ in LARGE)]
    parameters, tokens, *gaps = (
        [BoundedInterval(v, max(0.0, v - by), min(end, v + by)) for v, by, end in zip(values, near, most, strict=True)]
        if drawn
        else map(BoundedInterval, values)
    )
    fitted = shares.excess(law, n, d).tolist()
    excess = tuple(MeasuredExcess(*one) for one in zip(points, np.expm1(mean).tolist(), fitted, strict=True))
    seeds, recipe = int((~np.isnan(ratio)).sum(0).min()), grid.recipes[config]
    free, left_out = fit_shares(law, n, d, mean, _UNBOUNDED), len(grid.diverged.get(config, ()))
    published, measured = shares_of(recipe), measured_gap(recipe)
    return RecipeLaw(config, parameters, tokens, free, tuple(gaps), excess, seeds, left_out, published, measured)


def extrapolated(law: LossLaw, shares: EffectiveShares, parameters: float) -> float:
    """The gap of a model of this size at TOKENS_PER_PARAMETER, as a share of the unquantized loss."""
    return float(shares.excess(law, parameters, TOKENS_PER_PARAMETER * parameters))


def _gaps(law: LossLaw, shares: EffectiveShares) -> Iterator[float]:
    return (extrapolated(law, shares, size) for size in LARGE)


def _axes(points: list[GridPoint]) -> tuple[FloatArray, FloatArray]:
    import numpy as np

    return np.array([at.parameters for at in points], float), np.array([at.tokens for at in points], float)


def _log_losses(grid: LossGrid, config: str, points: list[GridPoint]) -> FloatArray:
    """[seed, point], NaN where a trial has no loss; the seeds are all of the baseline's."""
    import numpy as np

    seeds = sorted({seed for at in grid.losses[grid.baseline].values() for seed in at})
    losses = grid.losses[config]
    return np.log([[losses[at].get(seed, math.nan) for at in points] for seed in seeds])


def _weights(seeds: int, draws: int) -> tuple[FloatArray, FloatArray]:
    """Normal weights [draw, seed], and the factor [draw, 1] that makes a t-distribution of them."""
    import numpy as np

    random = np.random.default_rng(0)
    chi = random.chisquare(max(1, seeds - 1), (draws, 1))
    return random.standard_normal((draws, seeds)), np.sqrt(max(1, seeds - 1) / chi)


def _unknown_noise(values: FloatArray) -> bool:
    """Whether a point has a single seed."""
    import numpy as np

    return bool((~np.isnan(values)).sum(0).min() < 2)


def _residuals(values: FloatArray) -> FloatArray:
    """Deviations from the points' means, scaled so that normal weights give the means' standard errors."""
    import numpy as np

    known = ~np.isnan(values)
    count = known.sum(0)
    found: FloatArray = np.where(known, values - np.nanmean(values, axis=0), 0.0) / np.sqrt(count * (count - 1))
    return found


__all__ = [
    "DRAWS",
    "LARGE",
    "TOKENS_PER_PARAMETER",
    "BoundedInterval",
    "MeasuredExcess",
    "RecipeLaw",
    "TaskLaw",
    "extrapolated",
    "task_law",
    "task_laws",
]
