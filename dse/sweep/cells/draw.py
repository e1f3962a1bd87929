"""Which configurations a sweep tries, where that needs no results: every one, random ones, or evenly spread ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count

from dse.sweep.cells.settings import Pick
from dse.sweep.cells.space import Assignment, Space, pick_of
from dse.sweep.language.labels import Label
from dse.sweep.spec.axes import NUMERICS, Dimension
from dse.sweep.spec.entries import RecipeEntry, TaskEntry

_PATIENCE = 3
"""Draws in vain for each configuration that was found, before there seem to be no more."""

Picks = tuple[Pick, ...]

_NOTHING: list[tuple[Picks, dict[str, Label]]] = [((), {})]


def every(space: Space, task: TaskEntry, recipe: RecipeEntry, met: set[Dimension], most: int) -> list[Picks]:
    """Every combination of the axes that apply, in the order of `itertools.product`; stops soon after ``most``.

    The recipe that numerics axes leave as it is has none of them. Adds to ``met`` the dimensions that applied.
    """
    fixed = recipe.recipe.name == space.spec.fixed
    found: list[tuple[Picks, dict[str, Label]]] = [((), {"task": task.label, "recipe": recipe.recipe.name})]
    for dimension in space.axes:
        rows = _rows(dimension, fixed)
        applies = [not dimension.condition or dimension.applies(labels) for _, labels in found]
        if any(applies):
            met.add(dimension)
            found = [
                ((*picks, *row), {**labels, **own})
                for (picks, labels), yes in zip(found, applies, strict=True)
                for row, own in (rows if yes else _NOTHING)
            ]
        if len(found) > most:
            break
    return [picks for picks, _ in found]


def _rows(dimension: Dimension, fixed: bool) -> list[tuple[Picks, dict[str, Label]]]:
    """What a dimension's axes take together, as picks and as labels."""
    rows = [tuple(map(pick_of, dimension.axes, labels)) for labels in dimension.rows]
    if fixed:
        kept = [tuple(pick for pick in row if pick.kind != NUMERICS) for row in rows]
        rows = list({tuple((p.path, p.label) for p in row): row for row in kept}.values())
    return [(row, {pick.path: pick.label for pick in row}) for row in rows]


def drawn(space: Space, task: str) -> Iterator[Assignment]:
    """Configurations of a task, each once, until there seem to be no more.

    Every task is drawn from the same points, so that tasks with the same axes try the same configurations.
    """
    search = space.spec.search
    points = _random(len(space.dimensions), search.seed or 0)
    if search.method == "qmc":
        points = _sobol(len(space.dimensions), search.seed or 0)
    seen: set[tuple[tuple[str, Label], ...]] = set()
    misses = 0
    for shares in points:
        assignment = space.at(task, shares)
        key = tuple(assignment.items())
        if key not in seen:
            seen.add(key)
            misses = 0
            yield assignment
        else:
            misses += 1
            if misses > _PATIENCE * (len(seen) + 50):
                return


def _random(dimensions: int, seed: int) -> Iterator[Sequence[float]]:
    """Points of the unit cube, independent. Python's generator gives the same numbers in every version."""
    generator = random.Random(seed)
    while True:
        yield [generator.random() for _ in range(dimensions)]


def _sobol(dimensions: int, seed: int) -> Iterator[Sequence[float]]:
    """Points of the unit cube, spread evenly: Sobol's sequence, shifted by a random amount in each dimension.

    Without scipy's own scrambling, whose random numbers may change with its version. Source: Joe and Kuo,
    SIAM J. Sci. Comput. 30 (2008) 2635; Cranley and Patterson, SIAM J. Numer. Anal. 13 (1976) 904.
    """
    from scipy.stats.qmc import Sobol

    shift = next(_random(dimensions, seed))
    sequence = Sobol(dimensions, scramble=False)
    for exponent in count(6):
        for point in sequence.random(2**6 if exponent == 6 else 2 ** (exponent - 1)):
            yield [(float(share) + own) % 1.0 for share, own in zip(point, shift, strict=True)]
