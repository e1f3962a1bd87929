"""The key `start` of a task: the trial whose trained weights the task's trials start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from dse.errors import UserError, nearest
from dse.numerics.recipe import Recipe
from dse.sweep.language.labels import Label, label_of
from dse.sweep.language.source import Location
from dse.sweep.language.values import checked_task, checked_training
from dse.sweep.language.words import match_choice
from dse.tasks.base import Task, Training
from dse.trial import Trial

FROM = "from"


@dataclass(frozen=True, eq=False)
class StartEntry:
    """What a trial starts from: the trial of its task and seed under ``recipe``, with ``options`` of the task changed.

    It trains as its task does by default, with the ``settings`` of its own changed: the sweep's and the task's settings
    are those of the trials that go on from it.
    """

    recipe: Recipe
    options: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def label(self) -> Label:
        """``bf16(text=stdlib, steps=100)``."""
        return label_of({self.recipe.name: {**self.options, **self.settings}})

    def trial(self, task: Task[Any]) -> tuple[Trial | None, str]:
        """The trial of seed 0 that trials of ``task`` start from, and no reason; or None, and why there is none."""
        try:
            earlier = replace(task, **self.options)
            task.check_start(earlier)
            return Trial(earlier, replace(earlier.training(), **self.settings), self.recipe, 0), ""
        except UserError as error:
            return None, str(error)


def read_start(at: Location, given: Any, task: Task[Any], recipes: Mapping[str, Recipe]) -> StartEntry:
    """The entry of a task's `start`, which is a mapping by now. Raises UserError (file:line)."""
    if not isinstance(given, Mapping):
        raise at.error(f"tasks: start: expected a recipe, or {{from: bf16, option: value}}, found {given!r}")
    base = match_choice(given.get(FROM, "bf16"), recipes)
    if not isinstance(base, str) or base not in recipes:
        raise (at / FROM).error(f"tasks: start: unknown recipe {base!r}{nearest(base, recipes)}")
    known, settings = [f.name for f in fields(task)], [f.name for f in fields(Training)]
    options = {key: value for key, value in given.items() if key not in (FROM, "training")}
    for option in options:
        if option not in known:
            near = nearest(option, [*known, *settings, FROM])
            raise (at / option).error(f"tasks: start: task {task.name} has no option {option!r}{near}")
    if options:
        checked_task(at, task.name, options)
    training = checked_training(at / "training", given.get("training") or {})
    typed = {option: getattr(checked_task(at, task.name, {option: value}), option) for option, value in options.items()}
    entry = StartEntry(recipes[base], typed, training)
    if reason := entry.trial(task)[1]:
        raise at.error(f"tasks: start: {reason}")
    return entry


__all__ = ["StartEntry", "read_start"]
