"""Random and quasi-random search: configurations that are drawn without looking at results.

Points of the unit cube are drawn, and each is mapped to a configuration by its space. The same seed gives the same
configurations.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count

from dse.sweep.cells.pairs import PairsBySetting
from dse.sweep.cells.reachable import check_reachable
from dse.sweep.cells.space import Assignment, Space
from dse.sweep.language.labels import Label

_PATIENCE = 3
"""Draws without a new configuration, for each one that was found, after which a space counts as exhausted."""


def sampled_pairs(space: Space) -> PairsBySetting:
    """The configurations that the search tries on each task; excluded and impossible ones do not count as tried."""
    check_reachable(space)
    groups: PairsBySetting = {}
    for task in space.tasks:
        left = space.spec.search.trials or 0
        for assignment in sample_assignments(space, task):
            pair = space.pair(assignment)
            groups.setdefault(pair.setting, []).append(pair)
            why = pair.reason
            recipe = pair.variant.recipe
            seeds = (pair.labels_at(seed) for seed in space.spec.seeds)
            left -= not why and any(not space.exclusion.reason(labels, recipe) for labels in seeds)
            if left <= 0:
                break
    return groups


def sample_assignments(space: Space, task: str) -> Iterator[Assignment]:
    """Distinct configurations of a task, until none seem to be left.

    All tasks use the same points, so that tasks with the same axes try the same configurations.
    """
    search = space.spec.search
    points = _random(len(space.dimensions), search.seed or 0)
    if search.method == "qmc":
        points = _sobol(len(space.dimensions), search.seed or 0)
    seen: set[tuple[tuple[str, Label], ...]] = set()
    misses = 0
    for point in points:
        assignment = space.from_unit_cube(task, point)
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
    """Independent points of the unit cube. Python's generator gives the same numbers in every version."""
    generator = random.Random(seed)
    while True:
        yield [generator.random() for _ in range(dimensions)]


def _sobol(dimensions: int, seed: int) -> Iterator[Sequence[float]]:
    """Sobol's sequence, shifted by a random amount in each dimension (Cranley-Patterson rotation).

    scipy's own scrambling is not used, since its random numbers may change with scipy's version. Source: Joe and Kuo,
    SIAM J. Sci. Comput. 30 (2008) 2635; Cranley and Patterson, SIAM J. Numer. Anal. 13 (1976) 904.
    """
    from scipy.stats.qmc import Sobol

    shift = next(_random(dimensions, seed))
    sequence = Sobol(dimensions, scramble=False)
    for exponent in count(6):
        for point in sequence.random(2**6 if exponent == 6 else 2 ** (exponent - 1)):
            yield [(float(share) + own) % 1.0 for share, own in zip(point, shift, strict=True)]
