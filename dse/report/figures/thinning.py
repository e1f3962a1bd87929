"""Which configurations the Pareto figures draw, where there are more than a page can hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dse.report.analysis.configs import ALL, task_front

if TYPE_CHECKING:
    import pandas as pd

    from dse.report.analysis.deployment import PlaceTimes, TaskTimes
    from dse.report.analysis.searches import SearchHistory

MOST_POINTS = 3000
"""Points over all panels of a page: about 0.6 MB."""
_LEAST = 100
"""Configurations that are drawn however many panels there are."""


def drawn_configs(configs: pd.DataFrame, tasks: list[str], panels: int) -> set[str]:
    """The names of the configurations to draw: all, or about MOST_POINTS over so many ``panels``.

    Of more, those on a front (over all tasks or of one), recipes without overrides and the best of each recipe; then
    every n-th of the rest in the order of the improvement lost, so that the spread stays. The fronts stay what they
    are, because a configuration that is left out is worse than one that is drawn.
    """
    names = list(dict.fromkeys(configs["config"])) if len(configs) else []
    most = max(_LEAST, MOST_POINTS // panels)
    if len(names) <= most:
        return set(names)
    kept = set(configs.loc[configs["front"] | configs["front_time"] | configs["named"], "config"])
    for task in tasks:
        rows = configs[(configs["task"] == task) & configs["narrow"]]
        kept |= {name for name, member in zip(rows["config"], task_front(rows), strict=True) if member}
    overall = configs[configs["task"] == ALL].sort_values("lost_mean", kind="stable")
    kept |= set(overall.drop_duplicates("recipe")["config"])
    rest = [name for name in overall["config"] if name not in kept]
    every = math.ceil(len(rest) / max(1, most - len(kept)))
    return kept | set(rest[::every])


def place_fronts(places: Sequence[PlaceTimes]) -> set[str]:
    """The configurations on a front at any place, over all tasks or of one."""
    return {one.config for place in places for times in place.all for one in times.front}


def search_fronts(searches: Sequence[SearchHistory]) -> set[str]:
    """The configurations on the front of a search."""
    return {one.config for search in searches for one in search.front}


def at_drawn(place: PlaceTimes, drawn: set[str]) -> PlaceTimes:
    """The place with the configurations to draw alone."""

    def some(times: TaskTimes) -> TaskTimes:
        return replace(times, configs=tuple(one for one in times.configs if one.config in drawn))

    overall = some(place.overall) if place.overall else None
    return replace(place, overall=overall, tasks=tuple(some(times) for times in place.tasks))


__all__ = ["MOST_POINTS", "at_drawn", "drawn_configs", "place_fronts", "search_fronts"]
