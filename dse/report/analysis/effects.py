"""Effects of options: paired differences between cells that differ in one option and are equal in everything else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dse.report.analysis.configs import ALL
from dse.report.analysis.matched_pairs import (
    RECIPE,
    CellsByLabels,
    MatchedPair,
    cells_by_axis,
    comparable,
    paired_differences,
)
from dse.report.analysis.tidy import TidyTable
from dse.stats import NO_ESTIMATE, Estimate, across, combine, estimate, holm

OPTION, BASELINE, VERSUS = "option", "baseline", "versus"


@dataclass(frozen=True)
class Effect:
    """The effect of setting ``axis`` to ``value`` instead of ``reference``.

    - ``kind``: OPTION, BASELINE (a recipe against the baseline) or VERSUS (two recipes);
    - ``scope``: a task or all tasks; ``recipe``: the recipe it is restricted to, or '';
    - ``lost``: mean paired difference of the improvement lost; ``gap``: that of a single task's metric; ``across``: as
      ``lost``, with the interval for other tasks of this kind (``dse.stats.across``);
    - ``pairs``: number of pairs, of which ``better`` have a lower and ``worse`` a higher gap with ``value``;
    - ``only_value_diverged``, ``only_reference_diverged``: pairs without a difference because one side diverged;
    - ``p_holm``: p-value, adjusted within its family of so many ``comparisons``.
    """

    kind: str
    axis: str
    value: str
    reference: str
    scope: str
    recipe: str
    lost: Estimate
    gap: Estimate | None
    pairs: int
    better: int
    worse: int
    only_value_diverged: int
    only_reference_diverged: int
    p_holm: float = math.nan
    comparisons: int = 1
    across: Estimate = NO_ESTIMATE


def option_effects(table: TidyTable) -> list[Effect]:
    """Each grid axis' values against its first; each recipe against the baseline and against each other recipe.

    Numbers that a search drew from a range are no values to compare.

    Per value: one effect over all tasks (where every task has pairs), one per task, and over all tasks one per recipe.
    Families of Holm's correction: everything of the same kind of scope (all tasks; single tasks; single recipes), the
    pairs of recipes apart.
    """
    if table.frame.empty:
        return []
    wide = cells_by_axis(table)
    found: list[Effect] = []
    for axis, values in table.axes.items():
        if axis in table.ranged:  # which of the numbers drawn would be the reference?
            continue
        mine = comparable(wide[axis])
        for value in values[1:] if mine else ():
            pairs = paired_differences(mine, value, values[0])
            found += _summarize(pairs, OPTION, axis, value, values[0], per_recipe=len(table.recipes) > 2)
    found += _recipes(table, wide[RECIPE])
    return _adjust(found)


def recipe_pairs(found: list[Effect]) -> dict[tuple[str, str], Effect]:
    """(recipe, other) -> the effect over all tasks of the one instead of the other; both directions."""
    ours = [e for e in found if e.kind == VERSUS and e.scope == ALL]
    return {(e.value, e.reference): e for e in ours} | {(e.reference, e.value): _reversed(e) for e in ours}


def _recipes(table: TidyTable, wide: CellsByLabels) -> Iterator[Effect]:
    singles: dict[str, list[MatchedPair]] = {}  # a cell's gap is its paired difference with the baseline
    for by in wide.values():
        for name, pair in by.items():
            if not pair.baseline:
                singles.setdefault(name, []).append(pair)
    names = [name for name in table.recipes if name in singles]
    for name in names:
        yield from _summarize(singles[name], BASELINE, RECIPE, name, table.baseline)
    wide = comparable(wide)
    for i, reference in enumerate(names):
        for value in names[i + 1 :]:
            yield from _summarize(paired_differences(wide, value, reference), VERSUS, RECIPE, value, reference)


def _summarize(
    pairs: list[MatchedPair], kind: str, axis: str, value: str, reference: str, per_recipe: bool = False
) -> Iterator[Effect]:
    """Over all tasks, per task where there are several, and per recipe where that is asked; nothing without pairs."""

    def effect(scope: str, recipe: str, chosen: list[MatchedPair]) -> Effect:
        tasks = _by(chosen, "task")
        means = [_mean(mine, "lost") for mine in tasks.values()]
        lost = combine(means)
        gap = _mean(chosen, "gap") if len(tasks) == 1 else None
        gaps = [p.gap for p in chosen if math.isfinite(p.gap)]
        better, worse = sum(g < 0 for g in gaps), sum(g > 0 for g in gaps)
        counts = (
            len(gaps),
            better,
            worse,
            sum(p.diverged for p in chosen),
            sum(p.only_reference_diverged for p in chosen),
        )
        return Effect(kind, axis, value, reference, scope, recipe, lost, gap, *counts, across=across(means))

    if not pairs:
        return
    yield effect(ALL, "", pairs)
    tasks, recipes = _by(pairs, "task"), _by(pairs, "recipe")
    if len(tasks) > 1:
        yield from (effect(task, "", mine) for task, mine in tasks.items())
    if per_recipe and len(recipes) > 1:
        yield from (effect(ALL, recipe, mine) for recipe, mine in recipes.items())


def over_tasks(pairs: list[MatchedPair], what: str) -> Estimate:
    """The mean over tasks of each task's mean over seeds, of 'lost' or 'gap'."""
    return combine([_mean(mine, what) for mine in _by(pairs, "task").values()])


def _by(pairs: list[MatchedPair], label: str) -> dict[str, list[MatchedPair]]:
    groups: dict[str, list[MatchedPair]] = {}
    for pair in pairs:
        groups.setdefault(getattr(pair, label), []).append(pair)
    return groups


def _mean(pairs: list[MatchedPair], what: str) -> Estimate:
    """Averages one task's pairs within each seed, then over seeds."""
    means = []
    for mine in _by(pairs, "seed").values():
        known = [v for v in (getattr(p, what) for p in mine) if math.isfinite(v)]
        means += [math.fsum(known) / len(known)] if known else []
    return estimate(means)


def _adjust(found: list[Effect]) -> list[Effect]:
    families: dict[tuple[bool, object], list[int]] = {}
    for i, e in enumerate(found):
        families.setdefault((e.kind == VERSUS, "recipe" if e.recipe else e.scope == ALL), []).append(i)
    adjusted = list(found)
    for members in families.values():
        raw = [found[i].lost.p for i in members]
        tests = sum(math.isfinite(p) for p in raw)
        for i, p in zip(members, holm(raw), strict=True):
            adjusted[i] = replace(found[i], p_holm=p, comparisons=tests)
    return adjusted


def _reversed(e: Effect) -> Effect:
    return replace(
        e,
        value=e.reference,
        reference=e.value,
        lost=replace(e.lost, mean=-e.lost.mean),
        across=replace(e.across, mean=-e.across.mean),
        gap=replace(e.gap, mean=-e.gap.mean) if e.gap else None,
        better=e.worse,
        worse=e.better,
        only_value_diverged=e.only_reference_diverged,
        only_reference_diverged=e.only_value_diverged,
    )
