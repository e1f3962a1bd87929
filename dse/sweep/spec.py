"""A sweep file, understood: tasks and recipes that exist, axes with checked names, each with its place in the file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dse.errors import UserError, nearest
from dse.recipe import SELECTORS, Recipe, is_option_path
from dse.recipes import RECIPES
from dse.sweep.labels import HEAD, Label, label_of, text_of
from dse.sweep.numerics import Unusable, apply, option_data
from dse.sweep.schema import SweepFile, parse
from dse.sweep.source import Place, Source, read_source
from dse.sweep.values import checked_task, checked_training, task_value, training_value
from tasks import TASKS
from tasks.base import Task

NUMERICS, TRAINING, TASK = "numerics", "training", "task"
"""The three kinds of axes: what a path in `grid` may set."""


@dataclass(frozen=True)
class TaskEntry:
    """An item of `tasks`: the task with its options, and training settings of its own."""

    task: Task[Any]
    training: Mapping[str, Any]
    place: Place


@dataclass(frozen=True)
class RecipeEntry:
    """An item of `recipes`; the recipe's name is its label."""

    recipe: Recipe
    place: Place


@dataclass(frozen=True)
class Axis:
    """An item of `grid`. ``option`` is the path without its kind ('lr' of 'training.lr'); a numerics path whole."""

    path: str
    kind: str
    option: str
    values: tuple[Any, ...]
    labels: tuple[Label, ...]
    place: Place


@dataclass(frozen=True)
class Spec:
    """Everything a sweep file says. ``exclude`` is still raw: it speaks of labels, which expansion makes."""

    name: str
    source: Source
    tasks: tuple[TaskEntry, ...]
    recipes: tuple[RecipeEntry, ...]
    baseline: RecipeEntry
    seeds: tuple[int, ...]
    training: Mapping[str, Any]
    axes: tuple[Axis, ...]
    exclude: tuple[Mapping[str, Any], ...]

    def of_kind(self, kind: str) -> list[Axis]:
        return [axis for axis in self.axes if axis.kind == kind]


def read_spec(path: Path) -> Spec:
    """Reads and checks a sweep file. Raises UserError, one line that begins with file:line."""
    source = read_source(path)
    file = parse(source)
    recipes = _recipes(source, file)
    return Spec(
        name=file.name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-") or "sweep",
        source=source,
        tasks=tuple(_task(source, index, item) for index, item in enumerate(file.tasks)),
        recipes=recipes,
        baseline=_baseline(source, file, recipes),
        seeds=_seeds(source, file),
        training=checked_training(source, ("training",), file.training),
        axes=tuple(_axis(source, path, values) for path, values in file.grid.items()),
        exclude=tuple(file.exclude),
    )


def _seeds(source: Source, file: SweepFile) -> tuple[int, ...]:
    if (index := _repeated(file.seeds)) is not None:
        raise source.error(("seeds", index), f"seeds: {file.seeds[index]} is listed twice")
    return tuple(file.seeds)


def _task(source: Source, index: int, item: Mapping[str, Mapping[str, Any]]) -> TaskEntry:
    (name, settings), place = next(iter(item.items())), ("tasks", index)
    inside = (*place, name)
    if name not in TASKS:
        raise source.error(place, f"tasks: unknown task {name!r}{nearest(name, TASKS)}")
    options = {key: value for key, value in settings.items() if key != "training"}
    training = settings.get("training") or {}
    if not isinstance(training, Mapping):
        raise source.error((*inside, "training"), f"tasks: training: expected a mapping, found {training!r}")
    task = checked_task(source, inside, name, options)
    return TaskEntry(task, checked_training(source, (*inside, "training"), training), place)


def _recipes(source: Source, file: SweepFile) -> tuple[RecipeEntry, ...]:
    found: dict[str, RecipeEntry] = {}
    for index, item in enumerate(file.recipes):
        (label, settings), place = next(iter(item.items())), ("recipes", index)
        if label in found:
            raise source.error(place, f"recipes: {label!r} is listed twice")
        known = {**RECIPES, **{name: entry.recipe for name, entry in found.items()}}
        if not settings:
            if label not in known:
                raise source.error(place, f"recipes: unknown recipe {label!r}{nearest(label, known)}")
            found[label] = RecipeEntry(known[label], place)
            continue
        if label in RECIPES:
            raise source.error(place, f"recipes: {label!r} is in the gallery; a changed recipe needs a name of its own")
        found[label] = RecipeEntry(_inline(source, (*place, label), label, settings, known), place)
    return tuple(found.values())


def _inline(
    source: Source, place: Place, label: str, settings: Mapping[str, Any], known: Mapping[str, Recipe]
) -> Recipe:
    """The recipe {label: {base: name, path: value, ...}}."""
    base = settings.get("base")
    if base is None:
        raise source.error(place, f"recipes: {label!r} needs a base; write {{{label}: {{base: nvfp4, ...}}}}")
    if not label or label != label.strip() or not label.isprintable():
        raise source.error(place, f"recipes: {label!r} is no name")
    if not isinstance(base, str) or base not in known:
        raise source.error((*place, "base"), f"recipes: unknown recipe {base!r}{nearest(base, known)}")
    overrides = [(path, option_data(value)) for path, value in settings.items() if path != "base"]
    for path, _ in overrides:
        if not is_option_path(path):
            raise source.error((*place, path), f"recipes: {_no_point(path, ())}")
    try:
        recipe = apply(known[base], overrides)
    except Unusable as error:
        path = overrides[next(iter(error.failures))][0]
        raise source.error((*place, path), f"recipes: {error}") from None
    changes = " ".join(f"{path}={text_of(value)}" for path, value in overrides)
    return replace(recipe, name=label, summary=f"{base} with {changes}" if changes else f"the same as {base}")


def _baseline(source: Source, file: SweepFile, recipes: tuple[RecipeEntry, ...]) -> RecipeEntry:
    for entry in recipes:
        if entry.recipe.name == file.baseline:
            return entry
    if file.baseline not in RECIPES:
        known = [*RECIPES, *(entry.recipe.name for entry in recipes)]
        raise source.error(("baseline",), f"baseline: unknown recipe {file.baseline!r}{nearest(file.baseline, known)}")
    return RecipeEntry(RECIPES[file.baseline], ("baseline",))


def _axis(source: Source, path: str, raw: list[Any]) -> Axis:
    place = ("grid", path)
    kind, _, option = path.partition(".")
    if kind in (TRAINING, TASK) and option:
        values = [_axis_value(source, (*place, index), kind, option, value) for index, value in enumerate(raw)]
    elif is_option_path(path):
        kind, option, values = NUMERICS, path, [option_data(value) for value in raw]
    elif path in HEAD:
        raise source.error(place, f"grid: {path}s have a list of their own; write them under {path}s:")
    else:
        raise source.error(place, f"grid: {_no_point(path, (TRAINING, TASK))}")
    labels = tuple(label_of(value) for value in values)
    if (index := _repeated(labels)) is not None:
        raise source.error((*place, index), f"grid: {path} lists {labels[index]!r} twice")
    return Axis(path, kind, option, tuple(values), labels, place)


def _axis_value(source: Source, place: Place, kind: str, option: str, value: Any) -> Any:
    try:
        return training_value(option, value) if kind == TRAINING else task_value(option, value)
    except UserError as error:
        raise source.error(place, f"grid: {error}") from None


def _repeated(items: Sequence[Label]) -> int | None:
    """The index of the first item that was there before, if any was."""
    seen: set[Label] = set()
    for index, item in enumerate(items):
        if item in seen:
            return index
        seen.add(item)
    return None


def _no_point(path: str, others: tuple[str, ...]) -> str:
    """Why a path names no quantization point, nor one of the ``others`` that may stand first."""
    head = path.split(".")[0]
    if head in others:
        return f"{path!r} names no option; write for example {'training.lr' if head == TRAINING else 'task.size'}"
    return f"{path}: no quantization point {head!r}{nearest(head, [*SELECTORS, *others])}"
