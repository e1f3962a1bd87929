"""Interactions of options: the effect of one option under each value of another, and the difference of these effects.

The effect of A under B = b is the mean paired difference of the improvement lost between A's two values, among trials
with B = b. The interaction of (A, B) is a difference of differences, [effect under b] - [effect under B's first value],
taken within trials that are equal in all else, the seed among them, and then averaged over seeds as every effect is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dse.report.analysis.configs import ALL
from dse.report.analysis.effects import over_tasks
from dse.report.analysis.matched_pairs import (
    RECIPE,
    MatchedPair,
    cells_by_axis,
    difference,
    paired_by_labels,
    place_of,
)
from dse.report.analysis.tidy import TidyTable
from dse.stats import Estimate, holm


@dataclass(frozen=True)
class ConditionalEffect:
    """The effect of ``axis`` = ``value`` instead of ``reference`` where ``other`` = ``level``, over all tasks.

    - ``effect``: of the improvement lost there, over ``pairs`` pairs; negative loses less;
    - ``against``: the level that it is compared with, '' for that level itself;
    - ``interaction``: this effect minus that under ``against``, over trials that have all four;
    - ``p_holm``: its p-value, adjusted over all interactions of the sweep, ``comparisons`` in number.
    """

    axis: str
    value: str
    reference: str
    other: str
    level: str
    effect: Estimate
    pairs: int
    against: str = ""
    interaction: Estimate | None = None
    p_holm: float = math.nan
    comparisons: int = 1

    @property
    def decided(self) -> bool:
        """Whether the effect depends on the other option beyond the noise, at 5 % after Holm's correction."""
        return self.p_holm < 0.05


def interactions(table: TidyTable) -> list[ConditionalEffect]:
    """Every option's values against its first, under every value of every other option, the recipe among these.

    Nothing without two varied axes. Numbers that a search drew from a range are neither values nor conditions.
    """
    axes = [RECIPE, *table.axes]
    values = {RECIPE: table.recipes, **table.axes}
    wide = {} if table.frame.empty else cells_by_axis(table)
    found: list[ConditionalEffect] = []
    for axis in table.axes:
        if axis in table.ranged or len(values[axis]) < 2:
            continue
        for value in values[axis][1:]:
            pairs = paired_by_labels(wide.get(axis, {}), value, values[axis][0])
            for other in axes:
                if other != axis and other not in table.ranged:
                    place = place_of(axes, axis, other)
                    found += _conditional(pairs, place, (axis, value, values[axis][0]), other, values[other])
    return _adjusted(found)


def _conditional(
    pairs: Mapping[tuple[str, ...], MatchedPair],
    place: int,
    what: tuple[str, str, str],
    other: str,
    levels: Sequence[str],
) -> Iterator[ConditionalEffect]:
    by_level: dict[str, dict[tuple[str, ...], MatchedPair]] = {}
    for labels, pair in pairs.items():
        rest = (*labels[:place], *labels[place + 1 :])
        by_level.setdefault(labels[place], {})[rest] = pair
    known = [level for level in levels if level in by_level]
    if len(known) < 2:
        return
    first = by_level[known[0]]
    for level in known:
        mine = by_level[level]
        own = list({(pair.uid, pair.against): pair for pair in mine.values()}.values())
        effect = ConditionalEffect(*what, other, level, over_tasks(own, "lost"), len(own))
        if level == known[0]:
            yield effect
            continue
        both = [difference(mine[rest], first[rest]) for rest in mine if rest in first]
        distinct = {(pair.uid, pair.against): pair for pair in both if pair.uid != pair.against}
        yield replace(effect, against=known[0], interaction=over_tasks(list(distinct.values()), "lost"))


def _adjusted(found: list[ConditionalEffect]) -> list[ConditionalEffect]:
    """The p-values of one pair of axes are those of the other order too, so each unordered one counts once."""
    tests: dict[object, float] = {}
    keys = []
    for one in found:
        sides = frozenset({(one.axis, one.value, one.reference), (one.other, one.level, one.against)})
        keys.append(sides)
        if one.interaction is not None and one.interaction.df > 0:
            tests.setdefault(sides, one.interaction.p)
    adjusted = dict(zip(tests, holm(list(tests.values())), strict=True))
    made = []
    for one, key in zip(found, keys, strict=True):
        tested = one.interaction is not None and key in adjusted
        made.append(replace(one, p_holm=adjusted[key], comparisons=len(tests)) if tested else one)
    return made


__all__ = ["ALL", "ConditionalEffect", "interactions"]
