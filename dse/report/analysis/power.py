"""Power analysis: the noise of paired comparisons per task, and how many seeds a paired t-test needs.

A gap is a cell's metric minus that of its baseline with the same seed, hence with the same initialization and batches.
Its standard deviation over seeds is what a paired test works with. The power of a two-sided paired t-test with n seeds
against a true gap x is P(|T| > t_crit), T noncentral t with n - 1 degrees of freedom and noncentrality x sqrt(n) / sd.
Source: Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), ch. 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dse.report.analysis.tidy import TidyTable
from dse.stats import estimate

POWER, ALPHA = 0.8, 0.05
MOST_SEEDS = 100_000
_FAR = 50.0
"""Standard errors beyond which any gap shows, even with two seeds (where scipy's distribution gives up)."""


@dataclass(frozen=True)
class SeedNoise:
    """Variation of a task's metric over seeds. Standard deviations are pooled over configurations; NaN for one seed.

    ``baseline``: the mean of the baselines' metric; ``improvement``: by how much they improve from the first step to
    the last; ``seeds``: the fewest of a configuration; ``sd``: of the metric itself over seeds; ``paired``: of the gap
    to the baseline of the same seed; ``df``: degrees of freedom behind it.
    """

    task: str
    metric: str
    baseline: float
    improvement: float
    configs: int
    seeds: int
    sd: float
    paired: float
    df: int

    @property
    def detectable_gap(self) -> float:
        """The smallest true gap that this number of seeds detects; NaN for one seed."""
        return detectable_gap(self.paired, self.seeds)

    def seeds_for(self, gap: float) -> int | None:
        """Seeds needed to detect a true gap of this size, in the metric's unit; None where the noise is unknown."""
        return seeds_needed(gap, self.paired)


def seed_noise(table: TidyTable) -> list[SeedNoise]:
    """One per task, in the table's order. Trials without a metric, or without one of their baseline, are left out."""
    rows = table.rows
    return [_noise(task, table, [row for row in rows if row["task"] == task]) for task in table.tasks]


def power(gap: float, sd: float, n: int, alpha: float = ALPHA) -> float:
    """The probability that a two-sided paired t-test of n seeds shows a true ``gap`` whose deviation is ``sd``."""
    if n < 2 or not sd >= 0:
        return math.nan
    if sd == 0:
        return 1.0 if gap else alpha
    from scipy.stats import nct, t

    critical = t.isf(alpha / 2, n - 1)
    shift = abs(gap) * math.sqrt(n) / sd
    other = float(nct.cdf(-critical, n - 1, shift))  # rejected to the wrong side; scipy gives NaN where it vanishes
    return float(nct.sf(critical, n - 1, shift)) + (0.0 if math.isnan(other) else other)


def seeds_needed(gap: float, sd: float, wanted: float = POWER, alpha: float = ALPHA) -> int | None:
    """The fewest seeds, at least 2, with the wanted power; None where ``sd`` is not known or no number does.

    None also beyond MOST_SEEDS.
    """
    if not sd >= 0 or not abs(gap) > 0:
        return None

    def enough(n: int) -> bool:
        far = sd == 0 or abs(gap) * math.sqrt(n) / sd > _FAR
        return far or power(gap, sd, n, alpha) >= wanted

    return _first(enough, 2, MOST_SEEDS)


def detectable_gap(sd: float, n: int, wanted: float = POWER, alpha: float = ALPHA) -> float:
    """The gap that n seeds show with the wanted power, to a thousandth of itself; NaN where it is not known."""
    if n < 2 or not sd >= 0:
        return math.nan
    if sd == 0:
        return 0.0
    from scipy.optimize import brentq

    # in units of sd / sqrt(n); at n = 2 the critical value is 12.7, and the gap that is shown is 20 standard errors
    return float(brentq(lambda d: power(d * sd / math.sqrt(n), sd, n, alpha) - wanted, 1e-6, _FAR, rtol=1e-3)) * (
        sd / math.sqrt(n)
    )


def _first(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least number in [low, high] that is enough, given that all above one are."""
    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def _noise(task: str, table: TidyTable, rows: Sequence[dict[str, object]]) -> SeedNoise:
    gaps: dict[tuple[object, ...], list[float]] = {}
    metrics: dict[tuple[object, ...], list[float]] = {}
    base: list[float] = []
    improved: list[float] = []
    for row in rows:
        key = (row["config"], *(row[axis] for axis in table.axes))
        metric, gap = _number(row["metric"]), _number(row["gap"])
        if not math.isnan(metric):
            metrics.setdefault(key, []).append(metric)
            if row["is_baseline"]:
                base.append(metric)
                improved.append(_number(row["metric_initial"]) - metric)
        if not row["is_baseline"] and not math.isnan(gap):
            gaps.setdefault(key, []).append(gap)
    paired, df = _pooled(gaps.values())
    return SeedNoise(
        task=task,
        metric=table.metric[task],
        baseline=math.fsum(base) / len(base) if base else math.nan,
        improvement=estimate(improved).mean,
        configs=len(gaps),
        seeds=min(map(len, gaps.values()), default=0),
        sd=_pooled(metrics.values())[0],
        paired=paired,
        df=df,
    )


def _pooled(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    """The standard deviation within groups, and its degrees of freedom: sqrt(sum of squares / sum of (n_i - 1))."""
    squares, df = 0.0, 0
    for values in groups:
        mean = math.fsum(values) / len(values)
        squares += math.fsum((v - mean) ** 2 for v in values)
        df += len(values) - 1
    return (math.sqrt(squares / df) if df else math.nan), df


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
