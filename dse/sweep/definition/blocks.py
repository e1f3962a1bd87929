"""The keys `grid`, `zip` and `when`, of the sweep and of each of its tasks, as one list of dimensions.

A task's own axis takes the place of the sweep's for that task. Apart from that, two dimensions may share an axis only
when no cell meets the conditions of both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dse.errors import nearest
from dse.sweep.definition.axes import TASK, Axis, Condition, Dimension, grid_dimension, zip_dimension
from dse.sweep.language.labels import Label
from dse.sweep.language.match import match_labels
from dse.sweep.language.ranges import Range
from dse.sweep.language.source import Location
from dse.sweep.read.schema import AxesBlock, TaskBlock, WhenBlock, checked


@dataclass
class LocatedBlocks:
    """The items of `grid`, `zip` and `when` as they stand in the file, each with its place."""

    grid: dict[str, tuple[Location, Any]] = field(default_factory=dict)
    zips: list[tuple[Location, Mapping[str, Any]]] = field(default_factory=list)
    whens: list[tuple[Location, Mapping[str, Any]]] = field(default_factory=list)

    def add(self, at: Location, block: AxesBlock) -> None:
        """Lays the items of one mapping of the file, at ``at``, over those that are here."""
        self.grid |= {path: (at / "grid" / path, raw) for path, raw in block.grid.items()}
        listed = (*at.place, "zip", 0) in at.source.lines
        groups = [(at / "zip" / i if listed else at / "zip", group) for i, group in enumerate(block.zip)]
        self.zips += [(inside, group) for inside, group in groups if group]
        if isinstance(block, TaskBlock):
            self.whens += [(at / "when" / i, raw) for i, raw in enumerate(block.when)]


@dataclass(frozen=True)
class ConditionNames:
    """What a condition may say: the labels of the tasks' entries with their plain names, and the recipes."""

    tasks: Mapping[str, str]
    recipes: Sequence[str]


def dimensions_of(
    common: LocatedBlocks, own: Mapping[str, LocatedBlocks], heads: ConditionNames
) -> tuple[Dimension, ...]:
    """Every dimension, one that others depend on before them. ``own``: a task's label -> its own parts.

    Raises UserError (file:line).
    """
    shared = _unconditional(common, {})
    single: dict[str, list[Dimension]] = {}
    for task, parts in own.items():
        mine = single[task] = _unconditional(parts, {TASK: frozenset([task])})
        shared = [_without_task(dimension, task, mine, heads) for dimension in shared]
    found = [*shared, *(dimension for mine in single.values() for dimension in mine)]
    for at, raw in common.whens:
        found += _when(at, raw, {}, found, heads)
    for task, parts in own.items():
        for at, raw in parts.whens:
            before = [d for d in found if task in d.condition.get(TASK, {task})]
            found += _when(at, raw, {TASK: frozenset([task])}, before, heads)
    _refuse_overlaps(found)
    names, numbered = Counter[str](), list[Dimension]()
    for dimension in found:
        names[dimension.name] += 1
        numbered.append(replace(dimension, number=names[dimension.name]))
    return tuple(numbered)


def _unconditional(parts: LocatedBlocks, condition: Condition) -> list[Dimension]:
    """What of a place's dimensions needs no `when`."""
    grids = [grid_dimension(at, path, raw, condition, "grid") for path, (at, raw) in parts.grid.items()]
    return [*grids, *(zip_dimension(at, group, condition, "zip") for at, group in parts.zips)]


def _without_task(dimension: Dimension, task: str, own: Sequence[Dimension], heads: ConditionNames) -> Dimension:
    """The sweep's dimension without a task that has the axis itself."""
    paths = {axis.path for mine in own for axis in mine.axes}
    if not any(axis.path in paths for axis in dimension.axes):
        return dimension
    for axis in dimension.axes:
        if axis.path not in paths:
            inside = next(a.at for mine in own for a in mine.axes if a.path in {b.path for b in dimension.axes})
            raise inside.error(f"tasks: the sweep zips this axis with {axis.path}; {task} needs an own one of that too")
    others = dimension.condition.get(TASK, frozenset(heads.tasks)) - {task}
    if not others:
        raise dimension.at.error(f"{dimension.section}: every task has values of its own for {dimension.name}")
    return replace(dimension, condition={**dimension.condition, TASK: others})


def _when(
    at: Location, raw: Mapping[str, Any], own: Condition, before: Sequence[Dimension], heads: ConditionNames
) -> list[Dimension]:
    """The dimensions of an item of `when`; ``own`` is the condition of the place that it stands in."""
    when = checked(WhenBlock, raw, at, "when")
    if not when.condition:
        raise at.error("when: a condition is missing; write {if: {axis: value}, grid: {axis: [values]}}")
    parts = LocatedBlocks()
    parts.add(at, when)
    if not parts.grid and not parts.zips:
        raise at.error("when: nothing varies; write {if: {axis: value}, grid: {axis: [values]}}")
    said = {axis: _labels(at / "if" / axis, axis, value, own, before, heads) for axis, value in when.condition.items()}
    condition = {**own, **said}
    grids = [grid_dimension(inside, path, raw, condition, "when") for path, (inside, raw) in parts.grid.items()]
    return [*grids, *(zip_dimension(inside, group, condition, "when") for inside, group in parts.zips)]


def _labels(
    at: Location, axis: str, raw: Any, own: Condition, before: Sequence[Dimension], heads: ConditionNames
) -> frozenset[Label]:
    """The labels that the words about one axis of an `if` mean. It may name the axes that stand before it."""
    if axis == TASK and TASK not in own:
        return match_labels(at, "when", axis, raw, list(heads.tasks), heads.tasks)
    if axis == "recipe":
        return match_labels(at, "when", axis, raw, heads.recipes)
    if axis == "seed":
        raise at.error("when: an axis cannot depend on the seed; cells of one seed can be left out by exclude")
    known = [a for dimension in before for a in dimension.axes]
    same = [a for a in known if a.path == axis]
    if not same:
        choices = [*(a.path for a in known), "recipe", *([TASK] if TASK not in own else [])]
        raise at.error(f"when: no axis {axis!r} stands before this{nearest(axis, choices)}")
    if any(isinstance(a.values, Range) for a in same):
        raise at.error(f"when: {axis} is a range; a condition needs an axis with a list of values")
    return match_labels(at, "when", axis, raw, list(dict.fromkeys(label for a in same for label in a.labels)))


def _refuse_overlaps(dimensions: Sequence[Dimension]) -> None:
    """Raises UserError (file:line) when a cell could meet two dimensions with the same axis, or none can meet one."""
    owners: dict[str, list[tuple[Axis, Condition]]] = {}
    for dimension in dimensions:
        full = dict(dimension.condition)  # with what the axes of the condition need themselves
        for path in dimension.condition:
            if len(owners.get(path, ())) == 1:
                for needed, labels in owners[path][0][1].items():
                    full[needed] = full[needed] & labels if needed in full else labels
        if not all(full.values()):
            raise dimension.at.error(f"{dimension.section}: no cell can meet the condition of {dimension.name}")
        for axis in dimension.axes:
            for other, condition in owners.get(axis.path, ()):
                if not any(name in condition and not labels & condition[name] for name, labels in full.items()):
                    where = f"line {other.at.line}"
                    if other.at.source is not axis.at.source:
                        where += f" of {other.at.source.path}"
                    text = f"{dimension.section}: {axis.path} has values already ({where}), and a cell can meet both"
                    raise axis.at.error(text)
        for axis in dimension.axes:
            owners.setdefault(axis.path, []).append((axis, full))
