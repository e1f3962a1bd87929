"""Code that has changed since results were recorded: techniques, optimizers and a user's own tasks.

A trial's identity holds versions of code (``version`` of a task, ``arithmetic`` of a technique), which people raise by
hand; records hold digests of the code itself (``Record.code``), so that a version nobody raised is noticed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

from dse.numerics.quantizer import Quantizer
from dse.numerics.recipe import Recipe
from dse.numerics.registry import FAMILIES, words
from dse.optim import FIRST_MOMENTS, OPTIMIZERS, SECOND_MOMENTS
from dse.optim.loss_scaling import LOSS_SCALINGS
from dse.results.record import FAILED, Record
from dse.results.source_code import code_digest
from dse.tasks.own import is_path
from dse.text import plural
from dse.trial import Trial
from dse.version import __version__

_SETTINGS: dict[str, Mapping[str, object]] = {
    "optimizer": OPTIMIZERS,
    "loss_scaling": LOSS_SCALINGS,
    "first_moment": FIRST_MOMENTS,
    "second_moment": SECOND_MOMENTS,
}
"""Settings of a training that name an object or a class -> the objects or classes."""
_NAMED = 3
"""Changed classes that are named."""


def code_of(trial: Trial) -> dict[str, str]:
    """Name -> digest of the code of a trial's task, where that is code at a path, of its optimizer and the like, and of
    every technique in its recipe; and the same of the trials that it needs."""
    return {name: digest for name, cls in _classes(trial) if (digest := code_digest(cls))}


def changed_code(trials: Iterable[Trial], records: Iterable[Record]) -> str:
    """One line that names the code that has changed since ``records`` of ``trials``, and what to do; empty without any.

    Records from before digests were kept count as unchanged, and so does a class of this package under another version
    of it: a release that changes numbers says so in ``arithmetic``. Failed trials do not count: ``--retry failed``.
    """
    found, known = Counter[str](), {trial.uid: trial for trial in trials}
    old = 0
    for record in records:
        if not record.code or record.status == FAILED or record.uid not in known:
            continue
        other_version = record.versions.get("dse") != __version__
        changed = {
            name
            for name, cls in _classes(known[record.uid])
            if name in record.code
            and record.code[name] != code_digest(cls)
            and not (other_version and cls.__module__.startswith("dse."))
        }
        found.update(changed)
        old += bool(changed)
    if not found:
        return ""
    names = [name for name, _ in found.most_common()]
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return (
        f"the code of {named} has changed since {plural(old, 'result')} here {'was' if old == 1 else 'were'} recorded, "
        "and these are kept as they are; where numbers changed, raise the task's `version` or the technique's "
        "`arithmetic` (the trials are then new ones), or run them again with --retry all"
    )


def _classes(trial: Trial) -> Iterator[tuple[str, type]]:
    """The classes whose code computes a trial, each by its name for people."""
    for one in (trial, *trial.needs):
        if is_path(one.task.name):
            yield f"task {one.task.name}", type(one.task)
        for setting, known in _SETTINGS.items():
            name = getattr(one.training, setting)
            if (used := known.get(name)) is not None:
                yield f"{setting.replace('_', ' ')} {name}", used if isinstance(used, type) else type(used)
        yield from _techniques(one.recipe)


@lru_cache(maxsize=1024)
def _techniques(recipe: Recipe) -> tuple[tuple[str, type], ...]:
    return tuple(sorted(set(_inside(recipe)), key=lambda item: item[0]))


def _inside(value: Any) -> Iterator[tuple[str, type]]:
    """The techniques in a recipe or a part of one, each by its family and name."""
    if isinstance(value, tuple):
        for item in value:
            yield from _inside(item)
    elif is_dataclass(value):
        for base, family in FAMILIES.items():
            if isinstance(value, base) and base is not Quantizer:
                yield from ((f"{words(base)} {n}", cls) for n, cls in family.items() if cls is type(value))
        for field in fields(value):
            if not field.metadata.get("label"):
                yield from _inside(getattr(value, field.name))


__all__ = ["changed_code", "code_of"]
