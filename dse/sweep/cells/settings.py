"""Settings: each task of a sweep with its options and its training. A sweep crosses them with its recipes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from dse.errors import UserError
from dse.numerics.recipe import Recipe
from dse.sweep.cells.canonical import canonical
from dse.sweep.definition.axes import TASK, TRAINING, Axis
from dse.sweep.definition.baselines import Baseline
from dse.sweep.definition.entries import TaskEntry
from dse.sweep.definition.spec import Spec
from dse.sweep.language.labels import Label
from dse.tasks.base import Task, Training
from dse.trial import Trial, make_task, not_distilled


class AxisValue(NamedTuple):
    """A value on an axis: the axis' path, kind and option, the value, and its label."""

    path: str
    kind: str
    option: str
    value: Any
    label: Label


@dataclass(frozen=True, eq=False)
class Setting:
    """A task and its training; ``label`` names the task, ``labels`` are its values on the axes.

    ``start``: the trial of seed 0 that they start from, if any; ``content``: the canonical form of its trials, but for
    recipe and seed. ``reason``: why it cannot exist, or empty.
    """

    task: Task[Any]
    training: Training
    label: str
    labels: Mapping[str, Label]
    content: Mapping[str, Any]
    reason: str = ""
    start: Trial | None = None

    def start_at(self, seed: int) -> Trial | None:
        """The trial that its trials of a seed start from."""
        return replace(self.start, seed=seed) if self.start else None

    @cached_property
    def json_frame(self) -> tuple[str, str, str]:
        """The canonical JSON of its trials, cut at the recipe and the seed: the text before, between and after."""
        parts: list[list[str]] = [[], [], []]
        for key in sorted(self.content):
            parts[(key > "recipe") + (key > "seed")].append(f"{canonical(key)}:{canonical(self.content[key])}")
        before, between, after = (",".join(part) for part in parts)
        return (
            "{" + before + "," * bool(before) + '"recipe":',
            "," + between + "," * bool(between) + '"seed":',
            "," * bool(after) + after + "}",
        )


class SettingCache:
    """Makes settings, each once."""

    def __init__(self, spec: Spec) -> None:
        """Raises UserError (file:line) for an axis or a value that fits none of the tasks."""
        self._spec = spec
        self._made: dict[tuple[Any, ...], Setting] = {}
        self._pinned: dict[tuple[Setting, Baseline], Setting] = {}
        for dimension in spec.dimensions:
            entries = [e for e in spec.tasks if e.label in dimension.condition.get(TASK, {e.label})]
            for axis in dimension.axes:
                if axis.kind == TASK:
                    _refuse_unknown(dimension.section, axis, entries)

    def get(self, entry: TaskEntry, values: Sequence[AxisValue]) -> Setting:
        """The task with the values of task and training axes."""
        key = (entry, *((value.path, value.label) for value in values))
        if key not in self._made:
            task, reason = with_options(entry.task, {p.option: p.value for p in values if p.kind == TASK})
            grid = {p.option: p.value for p in values if p.kind == TRAINING}
            try:  # the task's own training, then the sweep's settings, the entry's, the grid's: the later wins
                training = replace(task.training(), **{**self._spec.training, **entry.training, **grid})
            except UserError as error:
                raise entry.at.error(f"tasks: {error}") from None
            labels = {value.path: value.label for value in values}
            start = None
            if entry.start and not reason:
                start, reason = entry.start.trial(task)
            if why := not_distilled(task, training, start):
                reason, training = reason or why, replace(training, distillation=0.0)
            content = _content(task, training, start)
            self._made[key] = Setting(task, training, entry.label_with(task), labels, content, reason, start)
        return self._made[key]

    def for_baseline(self, setting: Setting, baseline: Baseline) -> Setting:
        """The setting of a baseline for a cell with this setting: the same, except for the baseline's own settings."""
        if not baseline.training:
            return setting
        key = (setting, baseline)
        if key not in self._pinned:
            training = replace(setting.training, **baseline.training)
            paths = {path: label for path, label in baseline.labels.items() if path.startswith(TRAINING + ".")}
            labels = {**setting.labels, **{path: paths[path] for path in self._spec.paths if path in paths}}
            self._pinned[key] = replace(
                setting,
                training=training,
                labels=labels,
                content=_content(setting.task, training, setting.start),
            )
        return self._pinned[key]


def _content(task: Task[Any], training: Training, start: Trial | None) -> Mapping[str, Any]:
    spec = Trial(task, training, Recipe(), 0, start).spec
    return {key: value for key, value in spec.items() if key not in ("recipe", "seed")}


def _refuse_unknown(section: str, axis: Axis, entries: Iterable[TaskEntry]) -> None:
    """A value must fit at least one of the tasks; the message is of one that knows the option, if any does."""
    ends = () if isinstance(axis.values, tuple) else (axis.values.low, axis.values.high)
    values = axis.values if isinstance(axis.values, tuple) else tuple(map(axis.value, ends))
    for index, value in enumerate(values):
        errors = []
        for entry in entries:
            try:
                make_task(entry.task.name, {axis.option: value})
                break
            except UserError as error:
                errors.append((hasattr(entry.task, axis.option), str(error)))
        else:
            raise axis.location_of(index).error(f"{section}: {max(errors, key=lambda e: e[0])[1]}")


def with_options(task: Task[Any], values: Mapping[str, Any]) -> tuple[Task[Any], str]:
    """The task with these options and no reason; or as it was, and why it cannot have them."""
    if not values:
        return task, ""
    try:
        make_task(task.name, values)  # names an option that the task lacks
        return replace(task, **values), ""
    except UserError as error:
        return task, str(error)
