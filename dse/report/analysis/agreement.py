"""Which tasks rank configurations alike: rank correlations between tasks, and with published rankings.

Intervals are percentiles over bootstrap samples of the seeds, each task's drawn by itself; they know nothing of other
configurations, and with fewer than four seeds they are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dse.report.analysis.published import ORDERINGS, Published, content
from dse.report.analysis.rank_correlation import kendall, spearman
from dse.report.analysis.stats import CONFIDENCE
from dse.report.analysis.task_ranking import DRAWS, FEWEST, Ranking, ranking

if TYPE_CHECKING:
    from dse.report.analysis.rank_correlation import Values
    from dse.report.analysis.tidy import TidyTable


@dataclass(frozen=True)
class Rank:
    """A rank correlation over ``n`` configurations with its interval; NaN where unknown."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Reversal:
    """Two configurations that a task and the reference put in opposite orders, both beyond their noise.

    ``better`` and ``worse`` by the reference; ``here``, ``there``: worse minus better in the task and the reference,
    infinite where one of them diverged.
    """

    better: str
    worse: str
    here: float
    there: float


@dataclass(frozen=True)
class Agreement:
    """A task against the reference. ``decided``: pairs of configurations in an order that is beyond both's noise;
    ``reversals``: those of them that are in opposite orders, the clearest first."""

    task: str
    rho: Rank
    tau: Rank
    decided: int
    reversals: list[Reversal]


@dataclass(frozen=True)
class Comparison:
    """A task against a published ranking. ``pairs``: that it orders; ``agree``: in the same order here; ``decided``: of
    the pairs, those in an order that is beyond the task's noise; ``met``: of these, those in the published order."""

    task: str
    published: Published
    rho: Rank
    tau: Rank
    pairs: int
    agree: int
    decided: int
    met: int


@dataclass(frozen=True)
class Rankings:
    """Everything about how tasks rank; ``reference``: the task whose trials took longest. ``matrix``: rho, task by
    task, in the order of ``tasks``."""

    tasks: list[Ranking]
    reference: str
    agreements: list[Agreement]
    matrix: list[list[Rank]]
    comparisons: list[Comparison]


def rankings(table: TidyTable, orderings: Sequence[Published] = ORDERINGS) -> Rankings | None:
    """None for a sweep in which no two tasks share enough configurations with known gaps."""
    tasks = [one for task in table.tasks if (one := ranking(table, task)) and len(one.means) >= FEWEST]
    if len(tasks) < 2:
        return None
    reference = max(tasks, key=lambda one: one.seconds)
    lower = [[_rho(a, b) for b in tasks[: i + 1]] for i, a in enumerate(tasks)]
    matrix = [[lower[max(i, j)][min(i, j)] for j in range(len(tasks))] for i in range(len(tasks))]
    if not any(rank.n for i, row in enumerate(matrix) for j, rank in enumerate(row) if i != j):
        return None
    recipes = {cell.config: content(cell.trial.recipe) for cell in table.cells.values()}
    return Rankings(
        tasks,
        reference.task,
        [_agreement(one, reference) for one in tasks if one is not reference],
        matrix,
        [found for one in orderings for task in tasks if (found := _comparison(task, one, recipes))],
    )


def _shared(a: Ranking, b: Ranking) -> list[str]:
    names = [name for name in a.means if name in b.means]
    return names if len(names) >= FEWEST else []


def _rho(a: Ranking, b: Ranking) -> Rank:
    return _ranks(a, b, _shared(a, b))[0]


def _ranks(a: Ranking, b: Ranking, names: Sequence[str]) -> tuple[Rank, Rank]:
    """Spearman's and Kendall's, with intervals where both have several seeds."""
    import numpy as np

    unknown = Rank(math.nan, math.nan, math.nan, 0)
    if not names:
        return unknown, unknown
    random = np.random.default_rng(0)
    x, y = (np.array([one.means[name] for name in names]) for one in (a, b))
    several = a is not b and min(len(a.gaps), len(b.gaps)) > 1
    drawn = (a.samples(names, random), b.samples(names, random)) if several else None
    return _rank(spearman, x, y, drawn), _rank(kendall, x, y, drawn)


def _rank(how: object, x: Values, y: Values, drawn: tuple[Values, Values] | None) -> Rank:
    import numpy as np

    assert callable(how)
    low, high = math.nan, math.nan
    if drawn is not None:
        values = how(*(np.broadcast_to(part, (DRAWS, len(x))) for part in drawn))
        if not np.isnan(values).all():
            low, high = np.nanquantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Rank(float(how(x, y)), float(low), float(high), len(x))


def _agreement(task: Ranking, reference: Ranking) -> Agreement:
    names = _shared(task, reference)
    rho, tau = _ranks(task, reference, names)
    here, there = _differences(task, names), _differences(reference, names)
    decided, reversals = 0, []
    for pair, mine in here.items():
        theirs = there[pair]
        decided += bool(mine and theirs)
        if min(mine, theirs) < 0 < max(mine, theirs):
            better, worse = pair if theirs > 0 else pair[::-1]
            reversals.append(Reversal(better, worse, -abs(mine), abs(theirs)))
    return Agreement(task.task, rho, tau, decided, sorted(reversals, key=lambda r: r.here * r.there))


def _differences(task: Ranking, names: Sequence[str]) -> dict[tuple[str, str], float]:
    """Second minus first, paired by seed, for every pair of configurations; 0 where it is within the noise.

    The noise of a difference is pooled over all pairs of the task, and judged by a t-interval. One that diverged with
    any seed is infinitely behind one that never did, as in the ranking.
    """
    import numpy as np
    from scipy.stats import t

    columns = [task.gaps[:, task.configs.index(name)] for name in names]
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    ended = [bool(np.isinf(column).any()) for column in columns]
    found, spread, df = {}, 0.0, 0
    for i, j in pairs:
        both = np.isfinite(columns[i]) & np.isfinite(columns[j])
        own = (columns[j] - columns[i])[both] if both.any() else np.zeros(0)
        found[i, j] = own
        spread += float(((own - own.mean()) ** 2).sum()) if len(own) else 0.0
        df += max(0, len(own) - 1)
    degrees = df * 2 // max(1, len(names))  # pairs share configurations: as many are independent as there are gaps
    limit = float(t.ppf((1 + CONFIDENCE) / 2, degrees)) * math.sqrt(spread / df) if degrees and df else math.inf

    def decided(i: int, j: int) -> float:
        if ended[i] or ended[j]:
            return math.inf * (ended[j] - ended[i]) if ended[i] != ended[j] else 0.0
        own = found[i, j]
        return float(own.mean()) if len(own) and abs(own.mean()) > limit / math.sqrt(len(own)) else 0.0

    return {(names[i], names[j]): decided(i, j) for i, j in pairs}


def _comparison(task: Ranking, published: Published, recipes: dict[str, str]) -> Comparison | None:
    import numpy as np

    values = {name: published.values[recipes[name]] for name in task.means if recipes[name] in published.values}
    names = list(values)
    if len(names) < FEWEST:
        return None
    theirs = Ranking("", names, np.array([[values[name] for name in names]]), 0.0, "")
    random = np.random.default_rng(0)
    x, y = (np.array([one.means[name] for name in names]) for one in (task, theirs))
    drawn = (task.samples(names, random), y) if len(task.gaps) > 1 else None
    ordered = [(i, j) for i in range(len(names)) for j in range(len(names)) if y[i] < y[j]]
    agree = sum(bool(x[i] < x[j]) for i, j in ordered)
    beyond = [
        (difference > 0) == (values[b] > values[a])
        for (a, b), difference in _differences(task, list(task.means)).items()
        if difference and a in values and b in values and values[a] != values[b]
    ]
    rho, tau = (_rank(how, x, y, drawn) for how in (spearman, kendall))
    return Comparison(task.task, published, rho, tau, len(ordered), agree, len(beyond), sum(beyond))


__all__ = ["Agreement", "Comparison", "Rank", "Rankings", "Reversal", "rankings"]
