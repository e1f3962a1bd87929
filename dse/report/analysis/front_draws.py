"""How sure the Pareto front is: probabilities of being on it, its knee and its hypervolume, from the noise over seeds.

A draw replaces the mean of every configuration by a value that the seeds leave possible. Per task the means have a
multivariate t-distribution: the seeds' deviations, weighted by normal numbers that all configurations share, over a
chi that they share too. So each mean has the t-interval of the report, and noise that two configurations share by
pairing moves both. Source: Gelman et al., Bayesian Data Analysis (2013), ch. 3.6 (the flat prior's posterior).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dse.report.analysis.configs import ALL
from dse.report.analysis.tidy import TidyTable
from dse.stats import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from dse.report.analysis.rank_correlation import FloatArray

DRAWS = 2000
_LEAST_FOR_KNEE = 3


@dataclass(frozen=True)
class FrontDraws:
    """The front over all tasks, with its uncertainty; probabilities are NaN where a task has a single seed.

    - ``probability``: configuration -> the share of draws in which it is on the front;
    - ``knee``: the member of the front that is farthest from the line through its ends, '' with fewer than three;
    - ``knee_probability``: the share of draws with this knee;
    - ``hypervolume``, ``low``, ``high``: the area between the front and ``reference`` (overhead in percent, improvement
      lost as a share), in percentage points squared, with its 95 % interval.
    """

    probability: dict[str, float]
    knee: str
    knee_probability: float
    hypervolume: float
    low: float
    high: float
    reference: tuple[float, float]


def front_draws(
    table: TidyTable, configs: pd.DataFrame, reference: tuple[float, float] | None = None
) -> FrontDraws | None:
    """Of the eligible configurations; None where there are none. ``reference``: by default the worst of each."""
    import numpy as np

    if configs.empty:
        return None
    rows = configs[(configs["task"] == ALL) & configs["eligible"]].sort_values("overhead", kind="stable")
    if rows.empty:
        return None
    names = [str(name) for name in rows["config"]]
    cost, means = rows["overhead"].to_numpy(float), rows["lost_mean"].to_numpy(float)
    corner = reference or (float(cost.max()), float(means.max()))
    samples = means + mean_deviations(table, names)
    knee = _knees(cost, means[None])[0]
    volume = float(hypervolumes(cost, means[None], corner)[0])
    if np.isnan(samples).any():
        unknown = dict.fromkeys(names, math.nan)
        return FrontDraws(unknown, names[knee] if knee >= 0 else "", math.nan, volume, math.nan, math.nan, corner)
    members = front_members(cost, samples)
    low, high = np.quantile(hypervolumes(cost, samples, corner), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    same = float((_knees(cost, samples) == knee).mean()) if knee >= 0 else math.nan
    probability = dict(zip(names, members.mean(0).tolist(), strict=True))
    return FrontDraws(probability, names[knee] if knee >= 0 else "", same, volume, float(low), float(high), corner)


def front_members(cost: FloatArray, lost: FloatArray) -> NDArray[np.bool_]:
    """Which configuration is on the front in which draw; ``cost`` [C] ascending, ``lost`` [draw, C]."""
    import numpy as np

    starts = np.flatnonzero(np.r_[True, np.diff(cost) > 0])
    best = np.minimum.reduceat(lost, starts, axis=1)  # of each cost
    before = np.c_[np.full(len(lost), np.inf), np.minimum.accumulate(best, axis=1)[:, :-1]]
    group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(cost)]))
    members: NDArray[np.bool_] = (lost == best[:, group]) & (lost < before[:, group])
    return members


def hypervolumes(cost: FloatArray, lost: FloatArray, reference: tuple[float, float]) -> FloatArray:
    """The area that is worse than the front and better than the reference in both, by draw, in points squared."""
    import numpy as np

    widths = np.diff(np.r_[np.minimum(cost, reference[0]), reference[0]])
    heights = np.clip(reference[1] - np.minimum.accumulate(lost, axis=1), 0, None)
    area: FloatArray = 100 * (widths * heights).sum(1)
    return area


def _knees(cost: FloatArray, lost: FloatArray) -> NDArray[np.int64]:
    """Per draw the index of the front's knee, -1 with fewer than three members. Source: Das, On characterizing the
    'knee' of the Pareto curve (1999): farthest below the line through both ends, each axis scaled to the front."""
    import numpy as np

    found = np.full(len(lost), -1)
    for draw, members in enumerate(front_members(cost, lost)):
        at = np.flatnonzero(members)
        if len(at) >= _LEAST_FOR_KNEE:
            x, y = cost[at], lost[draw, at]
            across, down = (x - x[0]) / (x[-1] - x[0]), (y - y[-1]) / (y[0] - y[-1])
            found[draw] = at[np.argmax(1 - across - down)]
    return found


def mean_deviations(table: TidyTable, names: Sequence[str]) -> FloatArray:
    """Deviations [draw, configuration] of the means over tasks; NaN where a task's noise is unknown."""
    import numpy as np

    random = np.random.default_rng(0)
    total = np.zeros((DRAWS, len(names)))
    for task in table.tasks:
        lost = _lost(table, task, names)
        known = ~np.isnan(lost)
        count = known.sum(0)
        seeds = int(known.any(1).sum())
        if seeds < 2 or count.min() < 2:
            return np.full((DRAWS, len(names)), np.nan)
        residuals = np.where(known, lost - np.nanmean(lost, axis=0), 0.0) / np.sqrt(count * (count - 1))
        spread = np.sqrt((seeds - 1) / random.chisquare(seeds - 1, (DRAWS, 1)))
        total += random.standard_normal((DRAWS, len(lost))) @ residuals * spread
    return total / len(table.tasks)


def _lost(table: TidyTable, task: str, names: Sequence[str]) -> FloatArray:
    """The improvement lost [seed, configuration] on a task; NaN where unknown."""
    import numpy as np

    place = {name: i for i, name in enumerate(names)}
    rows = [row for row in table.rows if row["task"] == task and row["config"] in place]
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    lost = np.full((len(seeds), len(names)), np.nan)
    for row in rows:
        lost[seeds.index(row["seed"]), place[row["config"]]] = row["lost"]
    return lost


__all__ = ["DRAWS", "FrontDraws", "front_draws", "front_members", "hypervolumes", "mean_deviations"]
