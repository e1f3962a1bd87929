"""Grid search: every combination of the values of a sweep's axes, for each task and recipe."""

from __future__ import annotations

from dse.sweep.cells import cell_count
from dse.sweep.cells.pairs import PairsBySetting
from dse.sweep.cells.settings import AxisValue, Setting
from dse.sweep.cells.space import Space, axis_value
from dse.sweep.definition.axes import NUMERICS, Dimension
from dse.sweep.definition.entries import RecipeEntry, TaskEntry
from dse.sweep.language.labels import Label

AxisValues = tuple[AxisValue, ...]

_EMPTY_ROW: list[tuple[AxisValues, dict[str, Label]]] = [((), {})]
"""The row of a dimension whose condition a combination does not meet."""


def grid_pairs(space: Space) -> tuple[PairsBySetting, set[Setting]]:
    """All combinations, and the settings in which the grid lists the plain baseline.

    Raises UserError (file:line) for too many cells, for a condition that no cell meets, and for a value that fits no
    recipe.
    """
    spec, groups, met = space.spec, PairsBySetting(), set[Dimension]()
    listed: set[Setting] = set()
    left = cell_count.MOST_CELLS // len(spec.seeds)
    for task in spec.tasks:
        for entry in spec.recipes:
            fixed = entry.recipe.name == spec.fixed
            for values in enumerate_grid(space, task, entry, met, left):
                left -= 1
                if fixed:
                    setting = space.factory.settings.get(task, values)
                    listed.add(setting)
                    groups.setdefault(setting, [])
                else:
                    pair = space.make_pair(task, entry, values)
                    groups.setdefault(pair.setting, []).append(pair)
            if left < 0:
                raise (spec.at / "grid").error(f"the sweep has more than {cell_count.MOST_CELLS:,} cells")
    for dimension in space.axis_dimensions:
        if dimension not in met:
            raise dimension.at.error(f"{dimension.section}: no cell meets the condition of {dimension.name}")
    space.factory.variants.check_all_used(space.axis_dimensions)
    return groups, listed


def enumerate_grid(
    space: Space, task: TaskEntry, recipe: RecipeEntry, met: set[Dimension], most: int
) -> list[AxisValues]:
    """Every combination of the axes that apply to a task and a recipe, in the order of `itertools.product`.

    A plain baseline has no numerics axes. Stops soon after ``most`` combinations. Adds to ``met`` each dimension whose
    condition some combination meets.
    """
    fixed = recipe.recipe.name == space.spec.fixed
    found: list[tuple[AxisValues, dict[str, Label]]] = [((), {"task": task.label, "recipe": recipe.recipe.name})]
    for dimension in space.axis_dimensions:
        rows = _rows(dimension, fixed)
        applies = [not dimension.condition or dimension.applies(labels) for _, labels in found]
        if any(applies):
            met.add(dimension)
            found = [
                ((*values, *row), {**labels, **own})
                for (values, labels), yes in zip(found, applies, strict=True)
                for row, own in (rows if yes else _EMPTY_ROW)
            ]
        if len(found) > most:
            break
    return [values for values, _ in found]


def _rows(dimension: Dimension, fixed: bool) -> list[tuple[AxisValues, dict[str, Label]]]:
    """The rows of a dimension, as values and as labels; without numerics axes where ``fixed``."""
    rows = [tuple(map(axis_value, dimension.axes, labels)) for labels in dimension.rows]
    if fixed:
        kept = [tuple(value for value in row if value.kind != NUMERICS) for row in rows]
        rows = list({tuple((v.path, v.label) for v in row): row for row in kept}.values())
    return [(row, {value.path: value.label for value in row}) for row in rows]
