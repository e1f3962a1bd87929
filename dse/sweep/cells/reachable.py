"""Check that every value on the axes can occur in some configuration, for searches with too many cells to enumerate."""

from __future__ import annotations

import random
from collections.abc import Mapping

from dse.sweep.cells.settings import AxisValue
from dse.sweep.cells.space import Space, axis_value
from dse.sweep.definition.axes import NUMERICS, TASK, Dimension
from dse.sweep.language.labels import Label

_TRIES = 60


def check_reachable(space: Space) -> None:
    """Raises UserError (file:line) for a value that no configuration can take, or a dimension that applies to none.

    A value is tried alone on the recipes that may have it, then with random values on the other axes.
    """
    if not space.recipes:
        raise space.dimensions[0].at.error(f"search: the baseline {space.spec.fixed!r} alone leaves nothing to choose")
    generator = random.Random(0)
    for dimension in space.axis_dimensions:
        values: tuple[Label, ...] = dimension.choices
        if dimension.range:
            values = (dimension.range.low, dimension.range.high)
        if not any(axis.kind == NUMERICS for axis in dimension.axes):
            values = values[:1]  # values of tasks and of training were checked where they were read
        for value in values:
            _try(space, dimension, value, generator)
    space.factory.variants.check_all_used(space.axis_dimensions)


def _try(space: Space, target: Dimension, value: Label, generator: random.Random) -> None:
    needed = _needed(space, target)
    tasks = [task for task in space.tasks if task in needed.get(TASK, {task})]
    met = False
    for number in range(_TRIES):

        def suggest(dimension: Dimension, number: int = number) -> Label:
            if dimension is target:
                return value
            if dimension.range:
                return dimension.range.from_unit(generator.random())
            fitting = [
                choice
                for choice, row in zip(dimension.choices, dimension.rows, strict=True)
                if all(own in needed.get(axis.path, {own}) for axis, own in zip(dimension.axes, row, strict=True))
            ]
            fitting = fitting or list(dimension.choices)
            return fitting[number % len(fitting)] if dimension is space.dimensions[0] else generator.choice(fitting)

        labels = space.ask(tasks[number % len(tasks)], suggest) if tasks else {}
        if all(axis.path in labels for axis in target.axes) and target.applies(labels):
            met = True
            if _fits(space, target, labels):
                return
    if not met:
        raise target.at.error(f"{target.section}: no configuration meets the condition of {target.name}")


def _fits(space: Space, target: Dimension, labels: Mapping[str, Label]) -> bool:
    """Whether the recipe takes the target's values, alone or with everything else; the variants remember which."""
    entry = space.recipes[str(labels["recipe"])]
    alone = _numerics(target, labels)
    everything = [value for d in space.axis_dimensions if d.applies(labels) for value in _numerics(d, labels)]
    return any(not space.factory.variants.get(entry, values).reason for values in (alone, everything))


def _numerics(dimension: Dimension, labels: Mapping[str, Label]) -> list[AxisValue]:
    return [axis_value(axis, labels[axis.path]) for axis in dimension.axes if axis.kind == NUMERICS]


def _needed(space: Space, target: Dimension) -> dict[str, frozenset[Label]]:
    """The target's condition, with those of the axes that it speaks of where there is no choice of them."""
    needed = dict(target.condition)
    waiting = list(needed)
    while waiting:
        path = waiting.pop()
        owners = [d for d in space.axis_dimensions if any(axis.path == path for axis in d.axes)]
        for axis, labels in owners[0].condition.items() if len(owners) == 1 else ():
            if axis not in needed:
                waiting.append(axis)
            needed[axis] = needed[axis] & labels if axis in needed else labels
    return needed
