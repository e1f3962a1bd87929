"""Agreement of tasks: rank correlations between the tasks' rankings of configurations, and with published rankings.

Intervals are the spread of bootstrap samples of the seeds, drawn for each task separately, about the estimate: samples
repeat seeds, which weakens correlations, so their percentiles alone may lie below it. They do not cover the choice of
configurations, and with fewer than four seeds they are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dse.report.analysis.published import PUBLISHED_RANKINGS, PublishedRanking, recipe_content
from dse.report.analysis.rank_correlation import kendall, spearman
from dse.report.analysis.task_ranking import (
    BOOTSTRAP_SAMPLES,
    MIN_CONFIGS,
    TaskRanking,
    decided_differences,
    task_ranking,
)
from dse.stats import CONFIDENCE

if TYPE_CHECKING:
    from dse.report.analysis.rank_correlation import FloatArray
    from dse.report.analysis.tidy import TidyTable

    CorrelationFn = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True)
class Correlation:
    """A rank correlation over ``n`` configurations with its bootstrap interval; NaN where unknown."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Reversal:
    """Two configurations that a task and the reference order oppositely, both beyond their noise.

    ``better`` and ``worse``: by the reference; ``here`` and ``there``: the gap of ``worse`` minus that of
    ``better``, in the task and in the reference; infinite where one of them diverged.
    """

    better: str
    worse: str
    here: float
    there: float


@dataclass(frozen=True)
class TaskAgreement:
    """A task's ranking compared with the reference task's.

    ``decided``: number of pairs of configurations whose order is beyond the noise of both tasks; ``reversals``: those
    that the two tasks order oppositely, the clearest first.
    """

    task: str
    rho: Correlation
    tau: Correlation
    decided: int
    reversals: list[Reversal]


@dataclass(frozen=True)
class PublishedAgreement:
    """A task's ranking compared with a published one.

    ``pairs``: pairs of configurations that the published ranking orders; ``agree``: those that the task orders alike;
    ``decided``: those that the task orders beyond its noise; ``confirmed``: of the decided, those ordered alike.
    """

    task: str
    published: PublishedRanking
    rho: Correlation
    tau: Correlation
    pairs: int
    agree: int
    decided: int
    confirmed: int


@dataclass(frozen=True)
class RankingComparison:
    """The rankings of all tasks, compared with each other and with published ones.

    ``reference``: the task whose trials took longest; ``matrix``: Spearman's rho, task by task, in the order of
    ``tasks``.
    """

    tasks: list[TaskRanking]
    reference: str
    agreements: list[TaskAgreement]
    matrix: list[list[Correlation]]
    comparisons: list[PublishedAgreement]


def compare_rankings(
    table: TidyTable, orderings: Sequence[PublishedRanking] = PUBLISHED_RANKINGS
) -> RankingComparison | None:
    """None for a sweep in which no two tasks share enough configurations with known gaps."""
    tasks = [one for task in table.tasks if (one := task_ranking(table, task)) and len(one.means) >= MIN_CONFIGS]
    if len(tasks) < 2:
        return None
    reference = max(tasks, key=lambda one: one.seconds)
    lower = [[_spearman(a, b) for b in tasks[: i + 1]] for i, a in enumerate(tasks)]
    matrix = [[lower[max(i, j)][min(i, j)] for j in range(len(tasks))] for i in range(len(tasks))]
    if not any(rank.n for i, row in enumerate(matrix) for j, rank in enumerate(row) if i != j):
        return None
    recipes = {cell.config: cell.trial.recipe for cell in table.cells.values()}
    known = {recipe: recipe_content(recipe) for recipe in dict.fromkeys(recipes.values())}
    contents = {config: known[recipe] for config, recipe in recipes.items()}
    return RankingComparison(
        tasks,
        reference.task,
        [compare_tasks(one, reference) for one in tasks if one is not reference],
        matrix,
        [found for one in orderings for task in tasks if (found := _published_agreement(task, one, contents))],
    )


def _shared(a: TaskRanking, b: TaskRanking) -> list[str]:
    names = [name for name in a.means if name in b.means]
    return names if len(names) >= MIN_CONFIGS else []


def _spearman(a: TaskRanking, b: TaskRanking) -> Correlation:
    return _correlations(a, b, _shared(a, b), (spearman,))[0]


def _correlations(
    a: TaskRanking, b: TaskRanking, names: Sequence[str], kinds: Sequence[CorrelationFn] = (spearman, kendall)
) -> list[Correlation]:
    """One of each kind, with intervals where both have several seeds."""
    import numpy as np

    if not names:
        return [Correlation(math.nan, math.nan, math.nan, 0) for _ in kinds]
    random = np.random.default_rng(0)
    x, y = (np.array([one.means[name] for name in names]) for one in (a, b))
    several = a is not b and min(len(a.gaps), len(b.gaps)) > 1
    drawn = (a.samples(names, random), b.samples(names, random)) if several else None
    return [_correlation(how, x, y, drawn) for how in kinds]


def _correlation(
    how: CorrelationFn, x: FloatArray, y: FloatArray, drawn: tuple[FloatArray, FloatArray] | None
) -> Correlation:
    import numpy as np

    value, low, high = float(how(x, y)), math.nan, math.nan
    if drawn is not None:
        values = how(*(np.broadcast_to(part, (BOOTSTRAP_SAMPLES, len(x))) for part in drawn))
        if not np.isnan(values).all():
            below, middle, above = np.nanquantile(values, [(1 - CONFIDENCE) / 2, 0.5, (1 + CONFIDENCE) / 2])
            low, high = max(value + below - middle, -1.0), min(value + above - middle, 1.0)
    return Correlation(value, float(low), float(high), len(x))


def compare_tasks(task: TaskRanking, reference: TaskRanking) -> TaskAgreement:
    """A task's ranking against a reference's."""
    import numpy as np

    names = _shared(task, reference)
    rho, tau = _correlations(task, reference, names)
    here, there = decided_differences(task, names), decided_differences(reference, names)
    reversals = []
    for i, j in np.argwhere(np.sign(here) * np.sign(there) < 0).tolist():
        better, worse = (names[i], names[j]) if there[i, j] > 0 else (names[j], names[i])
        reversals.append(Reversal(better, worse, -abs(float(here[i, j])), abs(float(there[i, j]))))
    decided = int(np.count_nonzero((here != 0) & (there != 0)))
    return TaskAgreement(task.task, rho, tau, decided, sorted(reversals, key=lambda r: r.here * r.there))


def _published_agreement(
    task: TaskRanking, published: PublishedRanking, recipes: dict[str, str]
) -> PublishedAgreement | None:
    import numpy as np

    values = {name: published.values[recipes[name]] for name in task.means if recipes[name] in published.values}
    names = list(values)
    if len(names) < MIN_CONFIGS:
        return None
    theirs = TaskRanking("", names, np.array([[values[name] for name in names]]), 0.0, "")
    random = np.random.default_rng(0)
    x, y = (np.array([one.means[name] for name in names]) for one in (task, theirs))
    drawn = (task.samples(names, random), y) if len(task.gaps) > 1 else None
    ordered = [(i, j) for i in range(len(names)) for j in range(len(names)) if y[i] < y[j]]
    agree = sum(bool(x[i] < x[j]) for i, j in ordered)
    difference, place = task.decided, {name: i for i, name in enumerate(task.means)}
    beyond = [
        bool(difference[place[a], place[b]] > 0) == (values[b] > values[a])
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if difference[place[a], place[b]] and values[a] != values[b]
    ]
    rho, tau = (_correlation(how, x, y, drawn) for how in (spearman, kendall))
    return PublishedAgreement(task.task, published, rho, tau, len(ordered), agree, len(beyond), sum(beyond))


__all__ = ["Correlation", "PublishedAgreement", "RankingComparison", "Reversal", "TaskAgreement", "compare_rankings"]
__all__ += ["compare_tasks"]
