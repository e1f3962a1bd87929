"""How many cells a sweep has, counted before it is expanded.

The count is the product of tasks, recipes, axes without conditions, and seeds. It is approximate: conditions and
exclusions are not looked at.
"""

from __future__ import annotations

from math import prod

from dse.sweep.definition.spec import Spec
from dse.sweep.language.source import Location

MOST_CELLS = 1_000_000
"""A sweep of more cells is refused."""

MANY_CELLS = 100_000
"""From this many cells on expanding takes seconds: progress is reported, and `plan` and `run` ask for ``--yes``."""


def count_cells(spec: Spec) -> int:
    """The approximate number of cells; of a search, the number of configurations that it tries, with every seed."""
    return prod(number for _, number in _factors(spec))


def cell_count_text(spec: Spec) -> str:
    """The factors of the count: '2 tasks x 3 recipes x 5 training.lr x 4 seeds'."""
    return " x ".join(f"{number:,} {name}" for name, number in _factors(spec) if number > 1) or "1 cell"


def check_cell_count(spec: Spec, most: int | None = None) -> None:
    """Raises UserError (file:line) for a sweep of more than ``most`` cells, or by default more than MOST_CELLS."""
    count = count_cells(spec)
    if most is not None and count > most:
        text = f"the sweep has about {count:,} cells ({cell_count_text(spec)}); --yes goes on with them"
        raise _location(spec).error(text)
    if most is None and count > MOST_CELLS:
        text = f"the sweep has {count:,} cells; at most {MOST_CELLS:,} fit ({cell_count_text(spec)})"
        raise _location(spec).error(text)


def _factors(spec: Spec) -> list[tuple[str, int]]:
    axes = [("recipes", len(spec.recipes))]
    axes += [(d.name, len(d.discretized().rows)) for d in spec.dimensions if not d.condition]
    if spec.search.trials:
        axes = [("configurations", spec.search.trials)]
    return [("tasks", len(spec.tasks)), *axes, ("seeds", len(spec.seeds))]


def _location(spec: Spec) -> Location:
    return spec.at / ("search" if spec.search.trials else "grid")
