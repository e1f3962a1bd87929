"""Search space of a sweep: its dimensions, in an order in which conditions can be decided.

An assignment gives a configuration's value on each axis that applies to it: axis -> label, for the entry of `tasks`,
the recipe, and the axes; for a range, the number. It is plain data: a cell's labels without its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

from dse.errors import UserError
from dse.sweep.cells.cell import Cell, Excluded
from dse.sweep.cells.pairs import PairFactory, SettingVariant, make_cell
from dse.sweep.cells.settings import AxisValue, with_options
from dse.sweep.definition.axes import NUMERICS, TASK, TRAINING, Axis, Dimension
from dse.sweep.definition.entries import RecipeEntry, TaskEntry
from dse.sweep.definition.exclude import Exclusion
from dse.sweep.definition.spec import Spec
from dse.sweep.language.labels import Label, label_of, text_of
from dse.sweep.language.ranges import Range

Assignment = Mapping[str, Label]

SuggestFn = Callable[[Dimension], Label]
"""Chooses for one dimension: one of its ``choices``, or a number of its ``range``."""

_RANKS = {TASK: 0, TRAINING: 1, NUMERICS: 2}
_MOST_TASKS = 10_000


class Space:
    """The tasks, recipes and dimensions that a sweep's cells are chosen from.

    - ``tasks``: the entries of `tasks` by label; a search goes through each of them on its own;
    - ``recipes``: those of `recipes` by name, without a plain baseline, which has nothing to choose;
    - ``dimensions``: in the order of choice, the recipe first; ``axis_dimensions``: the same without the recipe.
    """

    def __init__(self, spec: Spec) -> None:
        """Raises UserError (file:line) for an axis of task options that fits no task, or a rule about nothing."""
        self.spec = spec
        self.factory = PairFactory(spec)
        self.tasks = {entry.label: entry for entry in spec.tasks}
        self.recipes = {e.recipe.name: e for e in spec.recipes if e.recipe.name != spec.fixed}
        self.axis_dimensions = _ordered(
            [d.discretized() if spec.search.method == "grid" else d for d in spec.dimensions]
        )
        names = tuple(self.recipes)
        recipe = Axis("recipe", "recipe", "recipe", names, names, spec.at / "recipes")
        self.dimensions = (Dimension((recipe,), {}, recipe.at, "recipes"), *self.axis_dimensions)
        self.task_names = _task_names(spec, self.axis_dimensions)
        self.exclusion = Exclusion(spec.exclude, self.labels(), self.task_names, spec.at.source)

    def labels(self) -> dict[str, list[Label]]:
        """Every label that is known of each axis, in the file's order; none for a range."""
        baselines = [variant.name for _, variant in self.factory.baselines]
        found: dict[str, list[Label]] = {
            "task": list(self.task_names),
            "recipe": [*baselines, *(entry.recipe.name for entry in self.spec.recipes)],
            "seed": list(self.spec.seeds),
            **{path: [] for path in self.spec.paths},
        }
        for dimension in self.axis_dimensions:
            for axis in dimension.axes:
                found[axis.path] += axis.labels
        for baseline in self.spec.baselines:
            for path, label in baseline.labels.items():
                found.get(path, []).append(label)
        return {axis: list(dict.fromkeys(labels)) for axis, labels in found.items()}

    def ask(self, task: str, suggest: SuggestFn) -> Assignment:
        """A configuration of a task: calls ``suggest`` for each dimension that applies, in order.

        Numbers are rounded to the nearest one of the range, decimals to four significant digits.
        """
        labels: dict[str, Label] = {"task": task}
        for dimension in self.dimensions:
            if dimension.applies(labels):
                chosen = suggest(dimension)
                if dimension.range:
                    labels[dimension.axes[0].path] = dimension.range.snap(chosen)  # type: ignore[arg-type]
                else:
                    row = dimension.rows[dimension.choices.index(chosen)]
                    labels.update(zip((axis.path for axis in dimension.axes), row, strict=True))
        return labels

    def choices_of(self, assignment: Assignment) -> dict[Dimension, Label]:
        """The choice that an assignment makes on each dimension. Raises UserError for one that is not of this space."""
        if assignment.get("task") not in self.tasks:
            raise UserError(f"this sweep has no task {assignment.get('task')!r}")
        found: dict[Dimension, Label] = {}

        def suggest(dimension: Dimension) -> Label:
            row = tuple(assignment.get(axis.path) for axis in dimension.axes)
            if dimension.range is None and row in dimension.rows:
                found[dimension] = dimension.choices[dimension.rows.index(row)]
            elif dimension.range and isinstance(row[0], int | float) and dimension.range.snap(row[0]) == row[0]:
                found[dimension] = row[0]
            else:
                raise UserError(f"{dimension.name} cannot be {', '.join(map(text_of, row))} in this sweep")
            return found[dimension]

        if self.ask(str(assignment["task"]), suggest) != dict(assignment):
            raise UserError("the assignment has values on axes that do not apply to it")
        return found

    def from_unit_cube(self, task: str, shares: Sequence[float]) -> Assignment:
        """The configuration at a point of the unit cube: a share in [0, 1) for each of ``dimensions``."""
        where = dict(zip(self.dimensions, shares, strict=True))

        def suggest(dimension: Dimension) -> Label:
            if dimension.range:
                return dimension.range.from_unit(where[dimension])
            count = len(dimension.choices)
            return dimension.choices[min(int(where[dimension] * count), count - 1)]

        return self.ask(task, suggest)

    def assignment(self, labels: Mapping[str, Label]) -> Assignment:
        """The assignment of a cell, from its labels. Raises UserError when the cell is none of this space."""
        axes = {axis: label for axis, label in labels.items() if label is not None and axis not in ("task", "seed")}
        for task in self.tasks:
            try:
                pair = self.pair({"task": task, **axes})
            except UserError:
                continue
            if pair.setting.label == labels["task"]:
                return {"task": task, **axes}
        raise UserError(f"no cell of this sweep has the labels {dict(labels)}")

    def pair(self, assignment: Assignment) -> SettingVariant:
        """Everything of an assignment's cells but the seed. Raises UserError for one that is not of this space."""
        applying = [dimension for dimension in self.choices_of(assignment) if dimension is not self.dimensions[0]]
        values = [axis_value(axis, assignment[axis.path]) for dimension in applying for axis in dimension.axes]
        return self.make_pair(self.tasks[str(assignment["task"])], self.recipes[str(assignment["recipe"])], values)

    def make_pair(self, task: TaskEntry, recipe: RecipeEntry, values: Sequence[AxisValue]) -> SettingVariant:
        """The pair of an entry of `tasks`, one of `recipes`, and values of the axes."""
        setting = self.factory.settings.get(task, [value for value in values if value.kind != NUMERICS])
        return self.factory.pair(setting, self.factory.variants.get(recipe, [p for p in values if p.kind == NUMERICS]))


def axis_value(axis: Axis, label: Label) -> AxisValue:
    """An axis' value as a pick."""
    value = axis.value(label)
    return AxisValue(axis.path, axis.kind, axis.option, value, label_of(value))


def cell_at(space: Space, assignment: Assignment, seed: int) -> Cell | Excluded:
    """The cell of an assignment and a seed, or why there is none. The same arguments give the same cell.

    Raises UserError for an assignment that is not of this space.
    """
    pair = space.pair(assignment)
    labels = pair.labels_at(seed)
    reason = space.exclusion.reason(labels, pair.variant.recipe) or pair.reason
    if reason:
        return Excluded(labels, reason)
    references = space.factory.baseline_pairs(pair.setting)
    return make_cell(pair, pair.trial(seed), {name: own.trial(seed).uid for name, own in references.items()})


def baselines_at(space: Space, assignment: Assignment, seed: int) -> tuple[Cell, ...]:
    """The baselines that the cell of an assignment is compared with; the first is its ``baseline_uid``."""
    pairs = space.factory.baseline_pairs(space.pair(assignment).setting)
    trials = {name: pair.trial(seed) for name, pair in pairs.items()}
    uids = {name: trial.uid for name, trial in trials.items()}
    return tuple(make_cell(pair, trials[name], uids) for name, pair in pairs.items())


def _ordered(dimensions: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """Task options, then training, then numerics, but what others depend on before them."""
    ranks: dict[str, int] = {}
    keyed = []
    for dimension in dimensions:
        own = [_RANKS[axis.kind] for axis in dimension.axes]
        rank = max([*own, *(ranks.get(path, 0) for path in dimension.condition)])
        ranks |= {axis.path: max(rank, ranks.get(axis.path, 0)) for axis in dimension.axes}
        keyed.append((rank, dimension))
    return tuple(dimension for _, dimension in sorted(keyed, key=lambda pair: pair[0]))


def _task_names(spec: Spec, dimensions: Sequence[Dimension]) -> dict[str, str]:
    """Every label that a task can have -> its plain name; options in a range leave the entry's label."""
    axes = [axis for dimension in dimensions for axis in dimension.axes if axis.kind == TASK]
    found = {}
    for entry in spec.tasks:
        for number, values in enumerate(product(*(a.values for a in axes if not isinstance(a.values, Range)))):
            options = dict(zip((a.option for a in axes if not isinstance(a.values, Range)), values, strict=True))
            found[entry.label_with(with_options(entry.task, options)[0])] = entry.task.name
            if number > _MOST_TASKS:
                break
    return found
