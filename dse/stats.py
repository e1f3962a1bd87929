"""The statistics of paired comparisons: means with t-intervals, means over tasks, and Holm's correction.

The unit of replication is the seed: everything that shares a task and a seed shares its initialization and its batches,
so it is averaged before an interval is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error, degrees of freedom and number of independent values.

    ``se`` and ``df`` are NaN where nothing is known of the noise (a single seed), ``mean`` where there is no value.
    """

    mean: float
    se: float
    df: float
    n: int

    @property
    def half(self) -> float:
        """Half the width of the two-sided 95 % t-interval; NaN without one."""
        return _quantile(self.df) * self.se if self.df > 0 else math.nan

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes zero. Never true without an interval."""
        return abs(self.mean) > self.half

    @property
    def p(self) -> float:
        """Two-sided p-value of the t-test against zero; NaN without an interval."""
        if not self.df > 0:
            return math.nan
        if self.se == 0:
            return 1.0 if self.mean == 0 else 0.0
        from scipy.stats import t

        return float(2 * t.sf(abs(self.mean) / self.se, self.df))


NO_ESTIMATE = Estimate(math.nan, math.nan, math.nan, 0)


def estimate(values: Iterable[float]) -> Estimate:
    """The mean of independent values; those that are not finite are left out."""
    finite = [v for v in values if math.isfinite(v)]
    n = len(finite)
    if n == 0:
        return NO_ESTIMATE
    mean = math.fsum(finite) / n
    if n == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    variance = math.fsum((v - mean) ** 2 for v in finite) / (n - 1)
    return Estimate(mean, math.sqrt(variance / n), n - 1, n)


def combine(strata: Sequence[Estimate]) -> Estimate:
    """The unweighted mean over strata (tasks), taken as fixed and mutually independent.

    se^2 = sum se_i^2 / T^2, degrees of freedom after Welch and Satterthwaite: (sum se_i^2)^2 / sum (se_i^4 / df_i).
    ``n`` is the smallest of the strata's. Without an interval in one stratum there is none for the mean.
    """
    if not strata or any(s.n == 0 for s in strata):
        return NO_ESTIMATE
    mean = math.fsum(s.mean for s in strata) / len(strata)
    n = min(s.n for s in strata)
    if any(not s.df > 0 for s in strata):
        return Estimate(mean, math.nan, math.nan, n)
    variances = [s.se**2 for s in strata]
    total = math.fsum(variances)
    spread = math.fsum(v**2 / s.df for v, s in zip(variances, strata, strict=True))
    df = total**2 / spread if spread > 0 else sum(s.df for s in strata)
    return Estimate(mean, math.sqrt(total) / len(strata), df, n)


def across(strata: Sequence[Estimate]) -> Estimate:
    """The mean over strata (tasks) that stand for others of their kind: seeds within tasks, tasks drawn at random.

    The means of T strata are independent values whose variance holds both that between strata and the noise within
    them, so se^2 = variance of the means / T, with T - 1 degrees of freedom: exact for equal numbers of seeds, and
    wider than ``combine`` where strata differ. Without two strata there is no interval. Source: Searle, Casella,
    McCulloch, Variance Components (1992), ch. 3 (the balanced one-way random model).
    """
    if not strata or any(s.n == 0 for s in strata):
        return NO_ESTIMATE
    return estimate(s.mean for s in strata)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given; a NaN stays NaN and does not count as a test."""
    tests = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    adjusted = [math.nan] * len(p)
    running = 0.0
    for rank, (value, i) in enumerate(tests):
        running = max(running, min(1.0, value * (len(tests) - rank)))
        adjusted[i] = running
    return adjusted


@lru_cache(maxsize=65536)
def _quantile(df: float) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, df))
