"""The keys `tasks` and `recipes`: their entries, looked up in the registries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from dse.errors import UserError, nearest
from dse.numerics.recipe import Recipe, is_option_path
from dse.numerics.registry import to_data
from dse.recipes import RECIPES
from dse.sweep.definition.axes import unknown_point_message
from dse.sweep.definition.blocks import LocatedBlocks
from dse.sweep.definition.start import StartEntry, read_start
from dse.sweep.language.labels import format_call, text_of
from dse.sweep.language.layer_rules import with_names
from dse.sweep.language.numerics import InvalidSettings, apply_settings, option_data
from dse.sweep.language.source import Location
from dse.sweep.language.values import checked_task, checked_training
from dse.sweep.language.words import match_choice
from dse.sweep.read.schema import EntryBlock, checked
from dse.tasks import TASKS
from dse.tasks.base import Task, Training
from dse.tasks.own import find, is_path

_SETTINGS = tuple(f.name for f in fields(Training))

Items = Sequence[tuple[Location, Any]]
"""The items of a list of the file, each with its place."""


@dataclass(frozen=True, eq=False)
class TaskEntry:
    """An item of `tasks`: the task with its options, and training settings of its own.

    ``label`` is its name in tables. ``own``: the settings that tell it from another entry of the same task;
    ``start``: whose trained weights its trials start from.
    """

    task: Task[Any]
    training: Mapping[str, Any]
    at: Location
    own: Mapping[str, Any] = field(default_factory=dict)
    start: StartEntry | None = None

    @property
    def label(self) -> str:
        return self.label_with(self.task)

    def label_with(self, task: Task[Any]) -> str:
        """The label of the entry with other options of its task."""
        start = {"start": self.start.label} if self.start else {}
        return label_of_task(task, {**self.own, **start})


@dataclass(frozen=True, eq=False)
class RecipeEntry:
    """An item of `recipes`; the recipe's name is its label."""

    recipe: Recipe
    at: Location


def label_of_task(task: Task[Any], own: Mapping[str, Any]) -> str:
    """``lm(size=small, steps=9)``: options other than the default, and settings that tell entries apart."""
    return format_call(task.name, {**to_data(task), **own})


def read_tasks(items: Items, recipes: Mapping[str, Recipe]) -> tuple[tuple[TaskEntry, ...], dict[str, LocatedBlocks]]:
    """The entries, and by label the axes of each that has some of its own; ``recipes``: that may be started from.

    Raises UserError (file:line).
    """
    read = [(_task(at, item, recipes), _parts(at, item)) for at, item in items]
    names = [entry.task.name for entry, _ in read]
    entries: list[TaskEntry] = []
    parts: dict[str, LocatedBlocks] = {}
    for entry, own in read:
        # a task's own training settings are in its label only where they tell it from another entry
        if names.count(entry.task.name) > 1:
            entry = replace(entry, own=entry.training)
        if entry.label in [other.label for other in entries]:
            raise entry.at.error(f"tasks: {entry.label} is listed twice")
        entries.append(entry)
        if own.grid or own.zips or own.whens:
            parts[entry.label] = own
    return tuple(entries), parts


def _task(at: Location, item: Mapping[str, Mapping[str, Any]], recipes: Mapping[str, Recipe]) -> TaskEntry:
    name, settings = next(iter(item.items()))
    inside = at / name
    if is_path(name):
        try:
            find(name, at.source.path.parent)
        except UserError as error:
            raise at.error(f"tasks: {error}") from None
    elif name not in TASKS:
        raise at.error(f"tasks: unknown task {name!r}{nearest(name, TASKS)}")
    options = {key: value for key, value in settings.items() if key not in EntryBlock.model_fields}
    known = [f.name for f in fields(TASKS[name])]
    loose = {option: options.pop(option) for option in list(options) if option not in known and option in _SETTINGS}
    for option in options:
        if option not in known:
            near = nearest(option, [*known, *EntryBlock.model_fields])
            raise (inside / option).error(f"tasks: task {name} has no option {option!r}{near}")
    training = settings.get("training") or {}
    if not isinstance(training, Mapping):
        raise (inside / "training").error(f"tasks: training: expected a mapping, found {training!r}")
    if twice := loose.keys() & training.keys():
        raise inside.error(f"tasks: {next(iter(twice))} is said twice: beside the options and under training")
    training = {**loose, **training}
    task = checked_task(inside, name, options)
    start = read_start(inside / "start", settings["start"], task, recipes) if settings.get("start") else None
    return TaskEntry(task, checked_training(inside / "training", training), at, start=start)


def _parts(at: Location, item: Mapping[str, Mapping[str, Any]]) -> LocatedBlocks:
    name, settings = next(iter(item.items()))
    own = {key: value for key, value in settings.items() if key in EntryBlock.model_fields}
    parts = LocatedBlocks()
    parts.add(at / name, checked(EntryBlock, own, at / name, f"tasks.{name}"))
    return parts


def read_recipes(items: Items) -> tuple[RecipeEntry, ...]:
    """The entries in order; one may build on those before it. Raises UserError (file:line)."""
    found: dict[str, RecipeEntry] = {}
    for at, item in items:
        label, settings = next(iter(item.items()))
        if label in found:
            raise at.error(f"recipes: {label!r} is listed twice")
        known = {**RECIPES, **{name: entry.recipe for name, entry in found.items()}}
        if not settings:
            label = match_choice(label, known)
            if label in found:
                raise at.error(f"recipes: {label!r} is listed twice")
            if label not in known:
                raise at.error(f"recipes: unknown recipe {label!r}{_as_printed(label, known) or nearest(label, known)}")
            found[label] = RecipeEntry(known[label], at)
            continue
        if label in RECIPES:
            raise at.error(f"recipes: {label!r} is in the gallery; a changed recipe needs a name of its own")
        found[label] = RecipeEntry(_inline(at / label, label, settings, known), at)
    return tuple(found.values())


def _as_printed(label: str, known: Mapping[str, Recipe]) -> str:
    """How to write a configuration that was copied from a plan, ``mxfp4 G.rounding=stochastic``; else nothing."""
    base, _, rest = label.partition(" ")
    if match_choice(base, known) not in known or "=" not in rest:
        return ""
    return f"; a changed recipe needs a name of its own: {{mine: {{base: {base}, {rest.strip().replace('=', ': ')}}}}}"


def _inline(at: Location, label: str, settings: Mapping[str, Any], known: Mapping[str, Recipe]) -> Recipe:
    """The recipe {label: {base: name, path: value, ...}}."""
    base = settings.get("base")
    if base is None:
        raise at.error(f"recipes: {label!r} needs a base; write {{{label}: {{base: nvfp4, ...}}}}")
    if not label or label != label.strip() or not label.isprintable():
        raise at.error(f"recipes: {label!r} is no name")
    base = match_choice(base, known)
    if not isinstance(base, str) or base not in known:
        raise (at / "base").error(f"recipes: unknown recipe {base!r}{nearest(base, known)}")
    overrides = [(path, option_data(value)) for path, value in settings.items() if path != "base"]
    for path, _ in overrides:
        if not is_option_path(path):
            raise (at / path).error(f"recipes: {unknown_point_message(path, ())}")
    try:
        recipe = apply_settings(known[base], list(with_names(dict(enumerate(overrides)), known).values()))
    except InvalidSettings as error:
        raise (at / overrides[next(iter(error.failures))][0]).error(f"recipes: {error}") from None
    changes = " ".join(f"{path}={text_of(value)}" for path, value in overrides)
    return replace(recipe, name=label, summary=f"{base} with {changes}" if changes else f"the same as {base}")
