"""Conversion and checks of the values of task options and training settings, one at a time.

A whole number where a decimal is meant (``lr: 1``) becomes the decimal, so that both spellings are the same trial.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any, get_origin, get_type_hints

from dse.errors import UserError, nearest
from dse.numerics.recipe import is_option_path
from dse.optim import FIRST_MOMENTS, OPTIMIZERS, SECOND_MOMENTS
from dse.optim.loss_scaling import LOSS_SCALINGS
from dse.sweep.language.numerics import option_data
from dse.sweep.language.source import Location
from dse.sweep.language.words import match_choice, parse_boolean, parse_number
from dse.tasks import TASKS
from dse.tasks.base import ACTIVATIONS, DECAYED, SCHEDULES, Task, Training
from dse.trial import make_task

_ANY = Training(steps=1, batch=1, lr=1e-3)
"""Settings are checked one by one in here; the constructor states their ranges."""


_WORDS: dict[str, Collection[str]] = {
    "optimizer": OPTIMIZERS,
    "loss_scaling": LOSS_SCALINGS,
    "first_moment": FIRST_MOMENTS,
    "second_moment": SECOND_MOMENTS,
    "schedule": SCHEDULES,
    "decayed": DECAYED,
    "activations": ACTIVATIONS,
}


def training_value(name: str, value: Any) -> Any:
    """The value of a training setting with its type. Raises UserError: no such setting, wrong type, out of range."""
    known = [f.name for f in fields(Training)]
    if name not in known:
        raise UserError(f"training: no setting {name!r}{nearest(name, known)}")
    if name in _WORDS:
        value = match_choice(value, _WORDS[name])
    if name == "optimizer" and not (isinstance(value, str) and value in OPTIMIZERS):
        raise UserError(f"training: unknown optimizer {value!r}{nearest(value, OPTIMIZERS)}")
    if name == "loss_scaling" and not (isinstance(value, str) and value in LOSS_SCALINGS):
        raise UserError(f"training: unknown loss scaling {value!r}{nearest(value, LOSS_SCALINGS)}")
    if name.endswith("_moment") and not (isinstance(value, str) and value in _WORDS[name]):
        raise UserError(f"training: unknown format {value!r} of {name}{nearest(value, _WORDS[name])}")
    if name == "betas" and not (isinstance(value, list) and len(value) == 2):
        raise UserError(f"training: betas must be two numbers, not {value!r}")
    typed = _typed(_hints(Training)[name], value)
    replace(_ANY, **{name: typed})
    return typed


def task_value(option: str, value: Any, cls: type | None = None) -> Any:
    """The value with the type that the option has in task ``cls``, or in the first task that knows the option."""
    owners = [cls] if cls else [c for c in TASKS.values() if option in {f.name for f in fields(c)}]
    return _typed(_hints(owners[0]).get(option), value) if owners else value


def normalize_value(path: str, value: Any, cls: type | None = None) -> Any:
    """A value of an option in canonical form: numbers without quotes, names of techniques as they are registered.

    A value that does not fit stays as it is: what reads it says why. ``cls``: the task that a task's option is of.
    """
    if isinstance(value, list):
        return value
    kind, _, option = path.partition(".")
    if kind not in ("training", "task"):
        return value if value is None or value == "off" or not is_option_path(path) else option_data(value)
    if not isinstance(value, str | float):
        return value
    try:
        return training_value(option, value) if kind == "training" else task_value(option, value, cls)
    except UserError:
        return value


def checked_training(at: Location, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Training settings with their types. Raises UserError with the line of the setting."""
    checked = {}
    for name, value in settings.items():
        try:
            checked[name] = training_value(name, value)
        except UserError as error:
            raise (at / name).error(error) from None
    return checked


def checked_task(at: Location, name: str, options: Mapping[str, Any]) -> Task[Any]:
    """The task with these options. Each is tried alone, so that an error has its line."""
    typed = {option: task_value(option, value, TASKS[name]) for option, value in options.items()}
    for option, value in typed.items():
        try:
            make_task(name, {option: value})
        except UserError as error:
            raise (at / option).error(f"tasks: {error}") from None
    try:
        return make_task(name, typed)
    except UserError as error:
        raise at.error(f"tasks: {error}") from None


def _typed(kind: Any, value: Any) -> Any:
    if isinstance(value, str) and kind in (int, float) and (read := parse_number(value.strip())) is not None:
        value = read
    if kind is bool and (word := parse_boolean(value)) is not None:
        return word
    if kind is bool and value == "off":
        return False
    if kind is int and isinstance(value, float) and value.is_integer():  # steps: 1e3
        return int(value)
    if kind is float and type(value) is int:
        return float(value)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(float(item) if type(item) is int else item for item in value)
    return value


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)
