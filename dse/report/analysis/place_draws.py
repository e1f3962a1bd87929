"""How sure the front against the time of a step is at each place: shares of draws of the means, under both ends of the
times (``dse.report.analysis.front_draws``)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dse.report.analysis.deployment import PlaceTimes
from dse.report.analysis.front_draws import front_members, mean_deviations
from dse.report.analysis.tidy import TidyTable

SURE = 0.95
"""The share of draws from which on a configuration is on the front robustly."""


@dataclass(frozen=True)
class OnFront:
    """In which share of draws a configuration is on a place's front: ``least`` and ``most`` of the two ends of its
    times; NaN where a task has a single seed."""

    config: str
    least: float
    most: float


@dataclass(frozen=True)
class PlaceDraws:
    """The configurations that are on the front at a place in any draw, over all tasks, fastest first."""

    title: str
    members: tuple[OnFront, ...]

    @property
    def robustly(self) -> list[OnFront]:
        """In SURE of the draws or more, whatever is assumed about kernels and hardware."""
        return [one for one in self.members if one.least >= SURE]

    @property
    def sometimes(self) -> list[OnFront]:
        """In 1 - SURE of the draws or more under some assumption, the likeliest first."""
        others = [one for one in self.members if one.least < SURE and one.most >= 1 - SURE]
        return sorted(others, key=lambda one: -one.most)

    @property
    def known(self) -> bool:
        """Whether the noise is known."""
        return not any(math.isnan(one.least) for one in self.members)


def place_draws(table: TidyTable, places: Iterable[PlaceTimes]) -> list[PlaceDraws]:
    """One per place at which configurations are known over all tasks."""
    return [_draws(table, place) for place in places if place.overall]


def _draws(table: TidyTable, place: PlaceTimes) -> PlaceDraws:
    import numpy as np

    configs = place.overall.configs if place.overall else ()
    samples = np.array([one.lost for one in configs]) + mean_deviations(table, [one.config for one in configs])
    if np.isnan(samples).any():
        unknown = (OnFront(one.config, math.nan, math.nan) for one in configs if one.front)
        return PlaceDraws(place.title, tuple(unknown))
    shares = []
    for end in ("low", "high"):
        cost = np.array([getattr(one, end) for one in configs])
        order = np.argsort(cost, kind="stable")
        share = np.empty(len(cost))
        share[order] = front_members(cost[order], samples[:, order]).mean(0)
        shares.append(share)
    ends = np.sort(shares, axis=0).T.tolist()
    found = (OnFront(one.config, least, most) for one, (least, most) in zip(configs, ends, strict=True) if most > 0)
    return PlaceDraws(place.title, tuple(found))


__all__ = ["SURE", "OnFront", "PlaceDraws", "place_draws"]
