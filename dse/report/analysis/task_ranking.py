"""Ranking of configurations by one task: by the mean gap to the baseline over seeds, without the baseline itself.

A seed that diverged makes the mean infinite: last, tied with other such. One whose baseline diverged tells nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING

from dse.report.analysis.rank_correlation import spearman
from dse.report.analysis.tidy import TidyTable
from dse.results.record import DIVERGED
from dse.stats import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np

    from dse.report.analysis.rank_correlation import FloatArray

MIN_CONFIGS = 4
"""Configurations that two rankings must share: with three, chance agreement is too frequent."""
BOOTSTRAP_SAMPLES = 1000
"""Bootstrap samples."""
_HALVES = 100


@dataclass(frozen=True, eq=False)
class TaskRanking:
    """A task's gaps [seed, configuration]: NaN where unknown, infinite where the trial diverged.

    ``seconds``: of a trial, the median; ``device``: where its trials ran, '' where that differs.
    """

    task: str
    configs: list[str]
    gaps: FloatArray
    seconds: float
    device: str

    @cached_property
    def means(self) -> dict[str, float]:
        """The mean gap of each configuration that has any."""
        import numpy as np

        known = [~np.isnan(column) for column in self.gaps.T]
        return {
            name: float(column[there].mean())
            for name, column, there in zip(self.configs, self.gaps.T, known, strict=True)
            if there.any()
        }

    @cached_property
    def seeds(self) -> int:
        """The fewest of a configuration that has any."""
        import numpy as np

        counts = (~np.isnan(self.gaps)).sum(0)
        return int(counts[counts > 0].min()) if counts.any() else 0

    @cached_property
    def decided(self) -> FloatArray:
        """``decided_differences`` of the configurations of ``means``."""
        return decided_differences(self, list(self.means))

    @cached_property
    def places(self) -> dict[str, int]:
        """Configuration -> its column of the gaps."""
        return {name: i for i, name in enumerate(self.configs)}

    def samples(self, names: Sequence[str], random: np.random.Generator) -> FloatArray:
        """Means [draw, configuration] over seeds drawn with replacement; the mean of all where a draw has no value."""
        import numpy as np

        chosen = self.gaps[:, [self.places[name] for name in names]]
        drawn = chosen[random.integers(0, len(chosen), (BOOTSTRAP_SAMPLES, len(chosen)))]
        return np.where(np.isnan(drawn).all(1), [self.means[name] for name in names], _mean(drawn))

    @cached_property
    def split_half(self) -> float:
        """Split-half rank correlation: mean of Spearman's rho between the rankings by two halves of the seeds."""
        import numpy as np

        names = [i for i, column in enumerate(self.gaps.T) if not np.isnan(column).any()]
        rows = len(self.gaps)
        if rows < 2 or len(names) < MIN_CONFIGS:
            return math.nan
        random, gaps = np.random.default_rng(0), self.gaps[:, names]
        orders = np.stack([random.permutation(rows) for _ in range(_HALVES)])
        half = rows // 2
        first, second = (gaps[part].mean(1) for part in (orders[:, :half], orders[:, half : 2 * half]))
        return float(np.nanmean(spearman(first, second)))


def decided_differences(task: TaskRanking, names: Sequence[str]) -> FloatArray:
    """[i, j]: configuration j minus i, for i before j, the mean over seeds; 0 where it is within the noise.

    The noise of a difference is pooled over all pairs of the task, and judged by a t-interval. One that diverged with
    any seed is infinitely behind one that never did, as in the ranking.
    """
    import numpy as np
    from scipy.stats import t

    gaps = task.gaps[:, [task.places[name] for name in names]]
    count, finite = len(names), np.isfinite(gaps)
    ended = np.any(np.isinf(gaps), axis=0)
    gaps = np.where(finite, gaps, 0.0)
    found, seeds = np.zeros((count, count)), np.zeros((count, count))
    spread, df = 0.0, 0
    for i in range(count - 1):
        both = finite[:, i + 1 :] & finite[:, i : i + 1]
        own = np.where(both, gaps[:, i + 1 :] - gaps[:, i : i + 1], 0.0)
        known = both.sum(0)
        mean = own.sum(0) / np.maximum(known, 1)
        spread += float((np.where(both, own - mean, 0.0) ** 2).sum())
        df += int(np.maximum(known - 1, 0).sum())
        found[i, i + 1 :], seeds[i, i + 1 :] = mean, known
    degrees = df * 2 // max(1, count)  # pairs share configurations: as many are independent as there are gaps
    limit = float(t.ppf((1 + CONFIDENCE) / 2, degrees)) * math.sqrt(spread / df) if degrees and df else math.inf
    with np.errstate(invalid="ignore", divide="ignore"):
        found[~(np.abs(found) > limit / np.sqrt(seeds))] = 0.0
    one, other = np.reshape(ended, (-1, 1)), np.reshape(ended, (1, -1))
    found[np.triu(one | other, 1)] = 0.0
    found[np.triu(one & ~other, 1)] = -math.inf
    found[np.triu(~one & other, 1)] = math.inf
    return found


def task_ranking(table: TidyTable, task: str) -> TaskRanking | None:
    """None where nothing has run, or nothing but baselines."""
    import numpy as np

    rows = [row for row in table.rows if row["task"] == task]
    done = [row for row in rows if not math.isnan(row["seconds"])]
    cells = [row for row in rows if not row["is_baseline"]]
    if not done or not cells:
        return None
    configs, seeds = (list(dict.fromkeys(row[name] for row in cells)) for name in ("config", "seed"))
    lost = {row["uid"] for row in rows if row["is_baseline"] and row["status"] == DIVERGED}
    gaps = np.full((len(seeds), len(configs)), np.nan)
    for row in cells:
        value = math.inf if row["status"] == DIVERGED and row["baseline_uid"] not in lost else row["gap"]
        gaps[seeds.index(row["seed"]), configs.index(row["config"])] = value
    devices = {row["device"] for row in done}
    where = devices.pop() if len(devices) == 1 else ""
    return TaskRanking(task, configs, gaps, median(row["seconds"] for row in done), where)


def _mean(drawn: FloatArray) -> FloatArray:
    """Over axis 1, without what is unknown; NaN where nothing is known."""
    import warnings

    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found: FloatArray = np.nanmean(drawn, axis=1)
    return found


__all__ = ["BOOTSTRAP_SAMPLES", "MIN_CONFIGS", "TaskRanking", "decided_differences", "task_ranking"]
