"""The settings that a sweep crosses with its recipes: each task with its options and its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from dse.errors import UserError
from dse.registry import to_data
from dse.sweep.labels import Label, call
from dse.sweep.spec import TASK, TRAINING, Axis, Spec, TaskEntry
from dse.trial import Trial, make_task
from tasks.base import Task, Training


@dataclass(frozen=True)
class Setting:
    """A task and its training; ``label`` names the task, ``labels`` are its values on the grid's axes.

    ``content`` is the canonical form of its trials, but for recipe and seed. ``reason``: why it cannot exist, or empty.
    """

    task: Task[Any]
    training: Training
    label: str
    labels: Mapping[str, Label]
    content: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


def settings_of(spec: Spec) -> list[Setting]:
    """Every task with every combination of task and training axes.

    Raises UserError (file:line) for an option or a value that fits none of the tasks, and for a task listed twice.
    """
    tasks, trainings = spec.of_kind(TASK), spec.of_kind(TRAINING)
    for axis in tasks:
        _refuse_unknown(spec, axis)
    names = [entry.task.name for entry in spec.tasks]
    seen: set[tuple[Task[Any], str]] = set()
    found = []
    for entry in spec.tasks:
        # a task's own training settings are in its label only where they tell it from another entry
        own = entry.training if names.count(entry.task.name) > 1 else {}
        if (entry.task, call("", own)) in seen:
            raise spec.source.error(entry.place, f"tasks: {_label(entry.task, own)} is listed twice")
        seen.add((entry.task, call("", own)))
        for options in product(*(range(len(axis.values)) for axis in tasks)):
            task, reason = _with_options(entry.task, tasks, options)
            for chosen in product(*(range(len(axis.values)) for axis in trainings)):
                labels = {**axis_labels(tasks, options), **axis_labels(trainings, chosen)}
                training = _training(spec, entry, task, trainings, chosen)
                content = Trial(task, training, spec.baseline.recipe, 0).spec
                found.append(Setting(task, training, _label(task, own), labels, content, reason))
    return found


def axis_labels(axes: list[Axis], indices: tuple[int, ...]) -> dict[str, Label]:
    """Path -> label of the chosen value of each axis."""
    return {axis.path: axis.labels[index] for axis, index in zip(axes, indices, strict=True)}


def _refuse_unknown(spec: Spec, axis: Axis) -> None:
    """A value must fit at least one of the sweep's tasks; the message is of one that knows the option, if any does."""
    for index, value in enumerate(axis.values):
        errors = []
        for entry in spec.tasks:
            try:
                make_task(entry.task.name, {axis.option: value})
            except UserError as error:
                errors.append((hasattr(entry.task, axis.option), str(error)))
        if len(errors) == len(spec.tasks):
            raise spec.source.error((*axis.place, index), f"grid: {max(errors, key=lambda e: e[0])[1]}")


def _with_options(task: Task[Any], axes: list[Axis], indices: tuple[int, ...]) -> tuple[Task[Any], str]:
    """The task with the axes' options and no reason; or as it was, and why it cannot have them."""
    values = {axis.option: axis.values[index] for axis, index in zip(axes, indices, strict=True)}
    try:
        make_task(task.name, values)  # names an option that the task lacks
        return replace(task, **values), ""
    except UserError as error:
        return task, str(error)


def _training(spec: Spec, entry: TaskEntry, task: Task[Any], axes: list[Axis], indices: tuple[int, ...]) -> Training:
    """The task's own training, then the sweep's settings, the entry's, the grid's: the later wins."""
    grid = {axis.option: axis.values[index] for axis, index in zip(axes, indices, strict=True)}
    try:
        return replace(task.training(), **{**spec.training, **entry.training, **grid})
    except UserError as error:
        raise spec.source.error(entry.place, f"tasks: {error}") from None


def _label(task: Task[Any], own: Mapping[str, Any]) -> str:
    return call(task.name, {**to_data(task), **own})
