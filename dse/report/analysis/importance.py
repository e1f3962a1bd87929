"""Importance of a search's axes: how much of the variance of the gap each explains, axis by axis.

The gaps of a task's configurations are replaced by their ranks, so that one diverged configuration does not count for
more than any other. Of each axis: how much of the variance of the ranks lies between its values; numbers from a range
are put into up to five groups of equal size. That share, eta^2, is Kruskal and Wallis' H / (n - 1); the share shown is
epsilon^2 = 1 - (1 - eta^2) (n - 1) / (n - k), which is zero on average for an axis without effect, where
eta^2 grows with the number k of groups. For numbers, Spearman's rank correlation tells the direction.

A sampler does not vary axes independently (it goes where the gap is low), so a share is an association.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dse.stats import holm

_GROUPS = 5
_MIN_CONFIGS = 8
"""Configurations below which nothing is said."""


@dataclass(frozen=True)
class AxisImportance:
    """The importance of one axis.

    - ``share``: share of the variance of ranks that it explains (0 to 1; NaN unknown);
    - ``p_holm``: p-value of Kruskal and Wallis' test, after Holm's correction over the axes;
    - ``rho``: Spearman's rank correlation with the gap, for numbers (NaN otherwise);
    - ``best``: the value or interval with the lowest median gap;
    - ``n``: configurations that have the axis; ``groups``: groups of its values.
    """

    axis: str
    share: float
    p_holm: float
    rho: float
    best: str
    n: int
    groups: int


def axis_importances(axes: Mapping[str, Sequence[Any]], gaps: Sequence[float]) -> list[AxisImportance]:
    """Most important first. ``axes``: axis -> its value for each configuration, None where it does not apply, numbers
    for ranges and text for choices; ``gaps``: finite."""
    found = []
    for axis, values in axes.items():
        both = [(value, gap) for value, gap in zip(values, gaps, strict=True) if value is not None]
        if len(both) >= _MIN_CONFIGS and len({value for value, _ in both}) > 1:
            found.append(_axis_importance(axis, [value for value, _ in both], [gap for _, gap in both]))
    adjusted = holm([p for _, p in found])
    shares = [AxisImportance(**{**vars(one), "p_holm": p}) for (one, _), p in zip(found, adjusted, strict=True)]
    return sorted(shares, key=lambda one: -one.share if math.isfinite(one.share) else math.inf)


def _axis_importance(axis: str, values: Sequence[Any], gaps: Sequence[float]) -> tuple[AxisImportance, float]:
    from scipy.stats import kruskal, spearmanr

    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    labels = _binned(values) if numeric else [str(v) for v in values]
    groups: dict[Hashable, list[int]] = {}
    for i, label in enumerate(labels):
        groups.setdefault(label, []).append(i)
    n, k = len(gaps), len(groups)
    share = p = rho = math.nan
    if len(set(gaps)) > 1 and 1 < k < n:
        test = kruskal(*([gaps[i] for i in group] for group in groups.values()))
        eta, p = float(test.statistic) / (n - 1), float(test.pvalue)
        share = max(0.0, 1 - (1 - eta) * (n - 1) / (n - k))
        rho = float(spearmanr(values, gaps).statistic) if numeric else math.nan
    best = min(groups, key=lambda label: sorted(gaps[i] for i in groups[label])[len(groups[label]) // 2])
    return AxisImportance(axis, share, math.nan, rho, str(best), n, k), p


def _binned(values: Sequence[float]) -> list[str]:
    """Each number's group: the number itself where there are few, else 'low to high' of a group of about equal size."""
    distinct = sorted(set(values))
    if len(distinct) <= _GROUPS:
        return [f"{v:g}" for v in values]
    ordered = sorted(values)
    cuts = [ordered[len(ordered) * i // _GROUPS] for i in range(1, _GROUPS)]
    places = [sum(v >= cut for cut in cuts) for v in values]
    ends: dict[int, tuple[float, float]] = {}
    for place, v in zip(places, values, strict=True):
        low, high = ends.get(place, (v, v))
        ends[place] = min(low, v), max(high, v)
    return [f"{ends[place][0]:g} to {ends[place][1]:g}" for place in places]
