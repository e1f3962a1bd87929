"""The grid of a loss law: the final losses of a sweep's language models by size, tokens, configuration and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dse.numerics.recipe import Recipe
from dse.report.analysis.tidy import TidyTable
from dse.results.record import DIVERGED, OK
from dse.sweep import config_of
from dse.sweep.definition.entries import label_of_task

LEAST = 3
"""Sizes, and token budgets of each, that a law asks for."""
_BUDGET = "training.steps"
"""The axis that says how many tokens are seen, beside those of the task itself."""


@dataclass(frozen=True)
class GridPoint:
    """``parameters``: N, all but embedding and head; ``tokens``: D, those that training sees, repeats among them."""

    parameters: int
    tokens: int


@dataclass
class LossGrid:
    """One task in several sizes. ``losses``: configuration -> point -> seed -> final held-out loss; ``diverged``: the
    points at which a seed of a configuration diverged. ``baseline``: the name of the configuration that the others are
    compared with, ``recipes``: those of the configurations; ``planned``: the points that the sweep has."""

    task: str
    baseline: str
    planned: set[GridPoint] = field(default_factory=set)
    losses: dict[str, dict[GridPoint, dict[int, float]]] = field(default_factory=dict)
    diverged: dict[str, set[GridPoint]] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)

    def points(self, config: str) -> list[GridPoint]:
        """Those that a configuration has a loss at, and no diverged seed: the seeds that went on are the luckier ones;
        by size, then tokens."""
        known = {at for at, seeds in self.losses.get(config, {}).items() if seeds}
        return sorted(known - self.diverged.get(config, set()), key=lambda at: (at.parameters, at.tokens))


def loss_grids(table: TidyTable) -> list[LossGrid]:
    """One per task and baseline whose sweep has several sizes, one of them with several token budgets.

    Trials that start from trained weights are left out: the law is one of training from scratch.
    """
    found: dict[tuple[str, str], LossGrid] = {}
    for uid, cell in table.cells.items():
        scale = cell.trial.task.scale(cell.trial.training)
        if scale is None or cell.trial.start is not None:
            continue
        task = label_of_task(scale.family, {})
        baseline = _name(table.cells[cell.baseline_uid].labels) if cell.baseline_uid in table.cells else table.baseline
        grid = found.setdefault((task, baseline), LossGrid(task, baseline))
        at, name = GridPoint(scale.parameters, scale.tokens), _name(cell.labels)
        grid.planned.add(at)
        grid.recipes.setdefault(name, cell.trial.recipe)
        record = table.records.get(uid)
        if record is None:
            continue
        if record.status == DIVERGED:
            grid.diverged.setdefault(name, set()).add(at)
        elif record.status == OK and record.metric is not None and math.isfinite(record.metric) and record.metric > 0:
            grid.losses.setdefault(name, {}).setdefault(at, {})[cell.trial.seed] = record.metric
    return [grid for grid in found.values() if len(_budgets(grid.planned)) > 1 and max(_budgets(grid.planned)) > 1]


def large_enough(points: list[GridPoint] | set[GridPoint]) -> bool:
    """Whether there are LEAST sizes with LEAST token budgets each."""
    budgets = _budgets(points)
    return sum(count >= LEAST for count in budgets) >= LEAST


def _budgets(points: list[GridPoint] | set[GridPoint]) -> list[int]:
    """How many token budgets each size has, the most first."""
    sizes: dict[int, set[int]] = {}
    for at in points:
        sizes.setdefault(at.parameters, set()).add(at.tokens)
    return sorted(map(len, sizes.values()), reverse=True)


def _name(labels: Mapping[str, object]) -> str:
    return config_of({axis: label for axis, label in labels.items() if axis != _BUDGET})  # type: ignore[misc]


__all__ = ["LEAST", "GridPoint", "LossGrid", "large_enough", "loss_grids"]
