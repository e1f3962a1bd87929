"""Expansion of the shorthands in sweep files, so that later stages see one form of everything.

``lr`` for ``training.lr``, one word for a list, ``{mine: nvfp4}`` for ``{mine: {base: nvfp4}}``, ``recipes: all``. What
could mean two things stays as it is, and is refused where it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from dse.sweep.language.option_names import SINGULAR, TASK_KEYS, TOP_KEYS, split_path, training_setting
from dse.sweep.language.source import KeyPath, YamlSource
from dse.sweep.language.values import normalize_value
from dse.sweep.language.words import match_choice, parse_call, parse_number, split_list
from dse.sweep.read.rewriter import LocatedValue, mapping_items
from dse.sweep.read.shorthand_axes import is_seq
from dse.sweep.read.shorthand_recipes import RecipeRewriter, head_of
from dse.tasks import TASKS
from dse.tasks.base import Training
from dse.tasks.own import is_path

_TRAINING = tuple(f.name for f in fields(Training))
POST = "post"
"""The axis that may stand beside `recipes`: post-training methods."""


def expand_shorthands(source: YamlSource) -> YamlSource:
    """The same file in its canonical form, every place with the line that it was written on.

    Raises UserError (file:line) for keys that say the same twice, and for patterns that match nothing.
    """
    if not isinstance(source.data, dict):
        return source
    writer = _Writer(source)
    data = writer.file(source.data)
    return YamlSource(source.path, source.text, data, writer.lines)


class _Writer(RecipeRewriter):
    """Builds the canonical data of a whole file from the top down."""

    def file(self, data: Mapping[str, Any]) -> dict[str, Any]:
        training: dict[str, LocatedValue] = {}
        kept: dict[str, LocatedValue] = {}
        post: LocatedValue | None = None
        for key, item in mapping_items(data, ()):
            name = SINGULAR.get(key, match_choice(key, TOP_KEYS))
            if key.startswith("x-"):  # a place for anchors
                continue
            if key == POST:
                post = item
                continue
            if name not in TOP_KEYS:
                kind, option = split_path(key)
                if kind == "training" and not _is_list(option, item.value):
                    self._once(training, option, item, key)
                    continue
                self._misplaced(key, kind, option, item)
            self._once(kept, name, item, key)
        found = {name: self._section(name, item) for name, item in kept.items()}
        if post:
            axes = found.setdefault("grid", {})
            self.lines.setdefault(("grid",), self._line(post.place))
            if not isinstance(axes, dict):
                return found  # what is wrong with it is said where it is read
            if POST in axes:
                raise self._error(post, "post is said twice: here and under grid")
            axes[POST] = self._values(POST, post, ("grid", POST))
        if training:
            own = found.setdefault("training", {}) or {}
            self.lines.setdefault(("training",), self._line(next(iter(training.values())).place))
            if isinstance(own, dict):
                for option, item in training.items():
                    if option in own:
                        raise self._error(item, f"{option} is said twice: here and under training")
                    value = normalize_value(f"training.{option}", item.value)
                    own[option] = self._copy(LocatedValue(value, item.place), ("training", option))
                found["training"] = own
        return found

    def _section(self, name: str, item: LocatedValue) -> Any:
        self.lines[(name,)] = self._line(item.place)
        make: Callable[[LocatedValue, KeyPath], Any] = {
            "tasks": self._tasks,
            "recipes": self._recipes,
            "training": self._training,
            "grid": self._axes,
            "zip": self._zips,
            "when": self._whens,
            "exclude": self._rules,
            "search": self._search,
            "seeds": self._seeds,
            "baseline": self._baseline,
        }.get(name, self._copy)
        return make(item, (name,))

    def _tasks(self, item: LocatedValue, to: KeyPath) -> Any:
        return self._each(self._named(item, "tasks", TASKS, ("name", "task")), item, to, self._task)

    def _task(self, item: LocatedValue, to: KeyPath) -> Any:
        value: Any = item.value
        if isinstance(value, str) and not is_path(value):
            value = parse_call(value)
            value = match_choice(value, dict(TASKS)) if isinstance(value, str) else value
        if isinstance(value, str) or not isinstance(value, dict):
            return self._copy(LocatedValue(value, item.place), to)
        if head := head_of(value, ("name", "task")):
            inner = {key: own for key, own in value.items() if key != head}
            return {value[head]: self._options(LocatedValue(inner, item.place), (*to, value[head]))}
        if len(value) != 1:
            return self._copy(item, to)
        name, inner = next(iter(value.items()))
        known = name if is_path(name) else match_choice(name, dict(TASKS))
        own = LocatedValue(inner, (*item.place, name))
        self.lines[*to, known] = self._line(own.place)
        return {known: self._options(own, (*to, known)) if isinstance(inner, dict) else self._copy(own, (*to, known))}

    def _options(self, item: LocatedValue, to: KeyPath, start_of: int | str = "") -> dict[str, Any]:
        """What stands beside a task: its options, training settings by their names, and axes; or the same in its
        ``start``, then with the task's name."""
        self.lines.setdefault(to, self._line(item.place))
        task = start_of or to[-1]
        options = [] if is_path(task) or task not in TASKS else [f.name for f in fields(TASKS[str(task)])]
        kept: dict[str, LocatedValue] = {}
        training: dict[str, LocatedValue] = {}
        for key, own in mapping_items(item.value, item.place):
            name = match_choice(key.removeprefix("task."), [*options, *TASK_KEYS])
            name_of = training_setting(key.removeprefix("training."))
            own_task = is_path(task) and key not in TASK_KEYS and not key.startswith("training.")
            if name not in (*options, *TASK_KEYS) and name_of in _TRAINING and not own_task:
                self._once(training, name_of, own, key)
            else:
                self._once(kept, name, own, key)
        make: dict[str, Callable[[LocatedValue, KeyPath], Any]] = {
            "training": self._training, "grid": self._axes, "zip": self._zips, "when": self._whens,
            "start": lambda own, to: self._start(own, to, task),
        }  # fmt: skip
        found = {}
        for name, own in kept.items():
            self.lines[*to, name] = self._line(own.place)
            if name in options:
                own = LocatedValue(normalize_value(f"task.{name}", own.value, TASKS[str(task)]), own.place)
            found[name] = make.get(name, self._copy)(own, (*to, name))
        if training:
            self.lines.setdefault((*to, "training"), self._line(next(iter(training.values())).place))
            inside = found.setdefault("training", {}) or {}
            if isinstance(inside, dict):
                for option, own in training.items():
                    if option in inside:
                        raise self._error(own, f"tasks: {option} is said twice: here and under training")
                    value = normalize_value(f"training.{option}", own.value)
                    inside[option] = self._copy(LocatedValue(value, own.place), (*to, "training", option))
                found["training"] = inside
        return found

    def _start(self, item: LocatedValue, to: KeyPath, task: int | str) -> Any:
        """``bf16`` -> {from: bf16}; options and settings as they stand beside a task."""
        if isinstance(item.value, str):
            self.lines[*to, "from"] = self._line(item.place)
            return {"from": item.value}
        if not isinstance(item.value, dict):
            return self._copy(item, to)
        inner = {key: own for key, own in item.value.items() if key != "from"}
        found = self._options(LocatedValue(inner, item.place), to, task)
        if "from" in item.value:
            found["from"] = self._copy(LocatedValue(item.value["from"], (*item.place, "from")), (*to, "from"))
        return found

    def _training(self, item: LocatedValue, to: KeyPath) -> Any:
        if not isinstance(item.value, dict):
            return self._copy(item, to)
        found: dict[str, LocatedValue] = {}
        for key, own in mapping_items(item.value, item.place):
            name = training_setting(key.removeprefix("training."))
            if name in _TRAINING and _is_list(name, own.value):
                raise self._error(
                    own, f"training: {name} has several values; to vary it write grid: {{training.{name}: ...}}"
                )
            self._once(found, name, own, key)
        return {
            name: self._copy(LocatedValue(normalize_value(f"training.{name}", own.value), own.place), (*to, name))
            for name, own in found.items()
        }

    def _search(self, item: LocatedValue, to: KeyPath) -> Any:
        if isinstance(item.value, str):
            self.lines[*to, "method"] = self._line(item.place)
            return {"method": item.value.casefold()}
        data = self._copy(item, to)
        if isinstance(data, dict):
            if isinstance(data.get("method"), str):
                data["method"] = data["method"].casefold()
            if isinstance(data.get("objectives"), str):
                data["objectives"] = split_list(data["objectives"])
        return data

    def _seeds(self, item: LocatedValue, to: KeyPath) -> Any:
        if isinstance(item.value, str):
            numbers = [parse_number(part) for part in split_list(item.value)]
            if None not in numbers:
                return numbers if len(numbers) > 1 else numbers[0]
        return self._copy(item, to)

    def _misplaced(self, key: str, kind: str, option: str, item: LocatedValue) -> None:
        """Raises UserError for a key of the file that belongs under another one; not for an unknown key."""
        if kind == "training":
            raise self._error(item, f"unknown key {key!r}; to vary it write grid: {{training.{option}: [values]}}")
        if kind == "task":
            where = f"tasks: [{{name: {{{option}: value}}}}], or to vary it grid: {{task.{option}: [values]}}"
            raise self._error(item, f"unknown key {key!r}; it is an option of a task: write {where}")
        if kind == "numerics":
            raise self._error(item, f"unknown key {key!r}; to vary it write grid: {{'{option}': [values]}}")


def _is_list(option: str, value: Any) -> bool:
    """Whether a training setting was given several values."""
    if isinstance(value, str):
        return len(split_list(value)) > 1
    return isinstance(value, list) and len(value) > 1 and (option != "betas" or any(map(is_seq, value)))


__all__ = ["expand_shorthands"]
