"""Functional ANOVA of a sweep: the share of the variance over configurations that each option explains, and each pair.

Optuna fits a random forest to the configurations (`FanovaImportanceEvaluator`) and takes the variance of its marginals:
an option's own share, and for a pair the share of both together less their own ones. Source: Hutter, Hoos,
Leyton-Brown, An efficient approach for assessing hyperparameter importance (ICML 2014).

What is explained is the improvement lost, averaged over tasks and seeds. Optuna's dashboard shows other numbers: of one
task, with diverged configurations counted as having learned nothing, and scaled to a sum of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING

from dse.report.analysis.configs import ALL
from dse.report.analysis.matched_pairs import RECIPE
from dse.report.analysis.tidy import TidyTable, row_dicts

if TYPE_CHECKING:
    import pandas as pd

LEAST = 8
"""Configurations below which nothing is said."""
_MOST = 400
"""Configurations that the forest sees: the first ones; its cost grows faster than their number."""
_PAIRED = 5
"""Axes of which pairs are looked at: those with the largest shares."""

Levels = Mapping[str, Sequence[str | float]]


@dataclass(frozen=True)
class VarianceShares:
    """Shares of the variance over ``n`` configurations, 0 to 1, largest first; what is left is of higher order."""

    first: dict[str, float]
    second: dict[tuple[str, str], float]
    n: int


def variance_shares(table: TidyTable, configs: pd.DataFrame) -> VarianceShares | None:
    """Over the configurations whose improvement lost is known on every task; None with too few, or one axis."""
    if configs.empty:
        return None
    lost = {row["config"]: row["lost_mean"] for row in row_dicts(configs[configs["task"] == ALL])}
    rows = row_dicts(table.frame[~table.frame["is_baseline"]].drop_duplicates("config"))
    known = [row for row in rows if math.isfinite(lost.get(row["config"], math.nan))][:_MOST]
    if len(known) < LEAST:
        return None
    levels: dict[str, list[str | float]] = {}
    for axis in (RECIPE, *table.axes):
        values = [row[axis] for row in known]
        if len(set(values)) > 1:
            ranged = axis in table.ranged and all(values)
            levels[axis] = [float(value) for value in values] if ranged else values
    if len(levels) < 2:
        return None
    return shares(levels, [lost[row["config"]] for row in known])


def shares(levels: Levels, values: Sequence[float]) -> VarianceShares | None:
    """``levels``: axis -> its level for each configuration, numbers of a range or text; None for equal values."""
    if len(set(values)) < 2:
        return None
    first = _evaluate(levels, values)
    ranked = sorted(first, key=lambda axis: -first[axis])
    second = {}
    for a, b in combinations(ranked[:_PAIRED], 2):
        both = [f"{_level(x)}\n{_level(y)}" for x, y in zip(levels[a], levels[b], strict=True)]
        rest = {axis: own for axis, own in levels.items() if axis not in (a, b)}
        second[a, b] = max(0.0, _evaluate({"both": both, **rest}, values)["both"] - first[a] - first[b])
    pairs = sorted(second, key=lambda pair: -second[pair])
    return VarianceShares({axis: first[axis] for axis in ranked}, {pair: second[pair] for pair in pairs}, len(values))


def _level(value: str | float) -> str:
    """A number of a range by its first digit and power of ten."""
    return value if isinstance(value, str) else f"{value:.0e}"


def _evaluate(levels: Levels, values: Sequence[float]) -> dict[str, float]:
    import optuna
    from optuna.distributions import BaseDistribution, FloatDistribution
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.trial import create_trial

    space: dict[str, BaseDistribution] = {}
    numbers: dict[str, list[float]] = {}
    for axis, own in levels.items():
        found = [value for value in own if not isinstance(value, str)]
        if len(found) == len(own):
            low, high = min(found), max(found)
            space[axis], numbers[axis] = FloatDistribution(low, high, log=low > 0 and high / low > 10), found
        else:
            place = _places([str(value) for value in own], values)
            space[axis] = FloatDistribution(-0.5, len(place) - 0.5)  # each level has the same width
            numbers[axis] = [place[str(value)] for value in own]
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study()
        for i, value in enumerate(values):
            params = {axis: own[i] for axis, own in numbers.items()}
            study.add_trial(create_trial(params=params, distributions=space, value=value))
        return dict(FanovaImportanceEvaluator(seed=0).evaluate(study))
    finally:
        optuna.logging.set_verbosity(before)


def _places(levels: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Each level -> its place in the order of the levels' mean values.

    The best split of levels into two sets is one of that order (Fisher, On grouping for maximum homogeneity, JASA
    1958), and a forest takes an axis as one number. As a column for each level, which is what Optuna makes of words,
    the marginals of an axis of n levels have up to 2^n parts.
    """
    found: dict[str, list[float]] = {}
    for level, value in zip(levels, values, strict=True):
        found.setdefault(level, []).append(value)
    return {level: float(i) for i, level in enumerate(sorted(found, key=lambda one: fmean(found[one])))}


__all__ = ["LEAST", "VarianceShares", "shares", "variance_shares"]
