"""The paired difference of two configurations: seed by seed on each task, then over tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dse.report.analysis.tidy import TidyTable
from dse.stats import NO_ESTIMATE, Estimate, combine, estimate

Losses = Mapping[tuple[str, str, str], float]
"""(task, seed, configuration) -> the share of the improvement that is lost."""


def losses(table: TidyTable) -> Losses:
    """What every trial of a sweep loses; NaN where that is unknown."""
    return {(row["task"], row["seed"], row["config"]): row["lost"] for row in table.rows}


def paired(table: TidyTable, config: str, reference: str, task: str = "") -> Estimate:
    """Mean paired difference of the improvement lost, ``config`` minus ``reference``, seed by seed.

    Over all tasks where none is named.
    """
    lost = losses(table)
    return paired_losses([task] if task else table.tasks, (lost, config), (lost, reference))


def paired_losses(tasks: Sequence[str], mine: tuple[Losses, str], theirs: tuple[Losses, str]) -> Estimate:
    """The same of a configuration in one sweep and one in another, or in the same."""
    (own, config), (other, reference) = mine, theirs
    strata = []
    for task in tasks:
        seeds = [seed for at, seed, name in own if (at, name) == (task, config)]
        strata.append(estimate(own[task, s, config] - other.get((task, s, reference), math.nan) for s in seeds))
    return combine(strata) if strata else NO_ESTIMATE


__all__ = ["Losses", "losses", "paired", "paired_losses"]
