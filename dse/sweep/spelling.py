"""Shorthands of sweep files, written out: what follows sees one form of everything.

``lr`` for ``training.lr``, one word for a list, ``{mine: nvfp4}`` for ``{mine: {base: nvfp4}}``, ``recipes: all``. What
could mean two things stays as it is, and is refused where it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from dse.errors import UserError, nearest
from dse.recipes import RECIPES
from dse.sweep.option_names import (
    SINGULAR,
    TASK_KEYS,
    TOP_KEYS,
    canonical_path,
    is_nested,
    owner_of,
    setting,
    whole_option,
)
from dse.sweep.ranges import ENDS, KINDS, PARTS
from dse.sweep.source import At, Place, Source
from dse.sweep.values import spelled
from dse.sweep.words import call, folded, is_pattern, is_technique, matching, meant, number, split
from tasks import TASKS
from tasks.base import SCHEDULES, Training
from tasks.own import is_path

_TRAINING = tuple(f.name for f in fields(Training))


def written_out(source: Source) -> Source:
    """The same file in its canonical form, every place with the line that it was written on.

    Raises UserError (file:line) for keys that say the same twice, and for patterns that match nothing.
    """
    if not isinstance(source.data, dict):
        return source
    writer = _Writer(source)
    data = writer.file(source.data)
    return Source(source.path, source.text, data, writer.lines)


@dataclass(frozen=True)
class _Item:
    """A value, and where it stood in the file."""

    value: Any
    place: Place


class _Writer:
    """Builds the canonical data from the top down; ``lines`` are those of its places."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.lines: dict[Place, int] = {(): source.line(())}

    def file(self, data: Mapping[str, Any]) -> dict[str, Any]:
        training: dict[str, _Item] = {}
        kept: dict[str, _Item] = {}
        for key, item in _items(data, ()):
            name = SINGULAR.get(key, meant(key, TOP_KEYS))
            if key.startswith("x-"):  # a place for anchors
                continue
            if name not in TOP_KEYS:
                kind, option = owner_of(key)
                if kind == "training" and not _is_list(option, item.value):
                    self._once(training, option, item, key)
                    continue
                self._misplaced(key, kind, option, item)
            self._once(kept, name, item, key)
        found = {name: self._section(name, item) for name, item in kept.items()}
        if training:
            own = found.setdefault("training", {}) or {}
            self.lines.setdefault(("training",), self._line(next(iter(training.values())).place))
            if isinstance(own, dict):
                for option, item in training.items():
                    if option in own:
                        raise self._error(item, f"{option} is said twice: here and under training")
                    value = spelled(f"training.{option}", item.value)
                    own[option] = self._copy(_Item(value, item.place), ("training", option))
                found["training"] = own
        return found

    def _section(self, name: str, item: _Item) -> Any:
        self.lines[(name,)] = self._line(item.place)
        make: Callable[[_Item, Place], Any] = {
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

    # -- tasks and recipes

    def _tasks(self, item: _Item, to: Place) -> Any:
        return self._each(self._named(item, "tasks", TASKS, ("name", "task")), item, to, self._task)

    def _recipes(self, item: _Item, to: Place) -> Any:
        return self._each(self._named(item, "recipes", RECIPES, ("name", "label")), item, to, self._recipe)

    def _named(self, item: _Item, key: str, known: Iterable[str], heads: tuple[str, ...]) -> list[_Item] | None:
        """The items of a list of names and ``{name: ...}``; a word, words with commas and a mapping are such lists."""
        listed = _listed(item)
        if isinstance(item.value, dict):
            listed = [_Item({name: own.value}, item.place) for name, own in _items(item.value, item.place)]
            if _head(item.value, heads):
                listed = [item]
        if listed is None:
            return None
        found: list[_Item] = []
        names: list[str] = [
            str(next(iter(i.value))) if isinstance(i.value, dict) and i.value else str(i.value) for i in listed
        ]
        for own in listed:
            if not is_pattern(own.value) or is_path(own.value) or own.value in known:
                found.append(own)
                continue
            fitting = matching(own.value, known)
            if not fitting:
                raise self._error(own, f"{key}: no {key[:-1]} matches {own.value!r}{nearest(own.value, known)}")
            found += [_Item(name, own.place) for name in fitting if name not in names]
            names += fitting
        return found

    def _task(self, item: _Item, to: Place) -> Any:
        value: Any = item.value
        if isinstance(value, str) and not is_path(value):
            value = call(value)
            value = meant(value, dict(TASKS)) if isinstance(value, str) else value
        if isinstance(value, str) or not isinstance(value, dict):
            return self._copy(_Item(value, item.place), to)
        if head := _head(value, ("name", "task")):
            inner = {key: own for key, own in value.items() if key != head}
            return {value[head]: self._options(_Item(inner, item.place), (*to, value[head]))}
        if len(value) != 1:
            return self._copy(item, to)
        name, inner = next(iter(value.items()))
        known = name if is_path(name) else meant(name, dict(TASKS))
        own = _Item(inner, (*item.place, name))
        self.lines[*to, known] = self._line(own.place)
        return {known: self._options(own, (*to, known)) if isinstance(inner, dict) else self._copy(own, (*to, known))}

    def _options(self, item: _Item, to: Place) -> dict[str, Any]:
        """What stands beside a task: its options, training settings by their names, and axes."""
        self.lines.setdefault(to, self._line(item.place))
        task = to[-1]
        options = [] if is_path(task) or task not in TASKS else [f.name for f in fields(TASKS[str(task)])]
        kept: dict[str, _Item] = {}
        training: dict[str, _Item] = {}
        for key, own in _items(item.value, item.place):
            name = meant(key.removeprefix("task."), [*options, *TASK_KEYS])
            name_of = setting(key.removeprefix("training."))
            own_task = is_path(task) and key not in TASK_KEYS and not key.startswith("training.")
            if name not in (*options, *TASK_KEYS) and name_of in _TRAINING and not own_task:
                self._once(training, name_of, own, key)
            else:
                self._once(kept, name, own, key)
        make: dict[str, Callable[[_Item, Place], Any]] = {
            "training": self._training, "grid": self._axes, "zip": self._zips, "when": self._whens,
        }  # fmt: skip
        found = {}
        for name, own in kept.items():
            self.lines[*to, name] = self._line(own.place)
            if name in options:
                own = _Item(spelled(f"task.{name}", own.value, TASKS[str(task)]), own.place)
            found[name] = make.get(name, self._copy)(own, (*to, name))
        if training:
            self.lines.setdefault((*to, "training"), self._line(next(iter(training.values())).place))
            inside = found.setdefault("training", {}) or {}
            if isinstance(inside, dict):
                for option, own in training.items():
                    if option in inside:
                        raise self._error(own, f"tasks: {option} is said twice: here and under training")
                    value = spelled(f"training.{option}", own.value)
                    inside[option] = self._copy(_Item(value, own.place), (*to, "training", option))
                found["training"] = inside
        return found

    def _recipe(self, item: _Item, to: Place) -> Any:
        value: Any = item.value
        if isinstance(value, dict) and "base" in value and (head := _head(value, ("name", "label"))):
            inner = {key: own for key, own in value.items() if key != head}
            self.lines[*to, value[head]] = self._line((*item.place, head))
            return {value[head]: self._paths(_Item(inner, item.place), (*to, value[head]), ("base",))}
        if not isinstance(value, dict) or len(value) != 1:
            return self._copy(item, to)
        label, inner = next(iter(value.items()))
        own, place = _Item(inner, (*item.place, label)), (*to, label)
        self.lines[place] = self._line(own.place)
        if isinstance(inner, str):
            self.lines[*place, "base"] = self._line(own.place)
            return {label: {"base": inner}}
        if isinstance(inner, dict):
            renamed = {"base" if key == "recipe" and "base" not in inner else key: v for key, v in inner.items()}
            for key in inner.keys() - renamed.keys():
                self.lines[*place, "base"] = self._line((*own.place, key))
            return {label: self._paths(_Item(renamed, own.place), place, ("base",))}
        return {label: self._copy(own, place)}

    def _baseline(self, item: _Item, to: Place) -> Any:
        if isinstance(item.value, str) and len(split(item.value)) > 1 and item.value not in RECIPES:
            return self._copy(_Item([part for part in split(item.value) if part], item.place), to)
        if isinstance(item.value, list):
            return self._each(_listed(item), item, to, self._config)
        return self._config(item, to)

    def _config(self, item: _Item, to: Place) -> Any:
        value = item.value
        if isinstance(value, dict) and len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
            name = next(iter(value))
            self.lines[*to, name] = self._line((*item.place, name))
            return {name: self._paths(_Item(inner, (*item.place, name)), (*to, name), ("recipe",))}
        if isinstance(value, dict) and "recipe" in value:
            return self._paths(item, to, ("recipe",))
        return self._copy(item, to)

    # -- axes

    def _training(self, item: _Item, to: Place) -> Any:
        if not isinstance(item.value, dict):
            return self._copy(item, to)
        found: dict[str, _Item] = {}
        for key, own in _items(item.value, item.place):
            name = setting(key.removeprefix("training."))
            if name in _TRAINING and _is_list(name, own.value):
                raise self._error(
                    own, f"training: {name} has several values; to vary it write grid: {{training.{name}: ...}}"
                )
            self._once(found, name, own, key)
        return {
            name: self._copy(_Item(spelled(f"training.{name}", own.value), own.place), (*to, name))
            for name, own in found.items()
        }

    def _axes(self, item: _Item, to: Place) -> Any:
        """``grid``: every axis with its list of values, or its range."""
        if not isinstance(item.value, dict):
            return self._copy(item, to)
        found: dict[str, _Item] = {}
        for key, own in _items(item.value, item.place):
            kind = meant(key, ("training", "task"))
            nested = isinstance(own.value, dict) and kind in ("training", "task")
            nested = nested or (is_nested(key, own.value) and not _is_range(own.value))
            kind = key if kind not in ("training", "task") else kind
            for path, inner in _items(own.value, own.place) if nested else [(key, own)]:
                name = canonical_path(f"{kind}.{path}" if nested else path)
                if name == "schedule" and _only(inner.value, SCHEDULES):
                    name = "training.schedule"
                self._once(found, name, inner, path)
        return {name: self._values(name, own, (*to, name)) for name, own in found.items()}

    def _values(self, path: str, item: _Item, to: Place) -> Any:
        value = item.value
        if isinstance(value, dict) and any(key in ENDS for key in value):
            return self._range(path, item, to)
        if isinstance(value, dict) and (log := value.keys() & {"loguniform", "log_uniform"}) and "log" not in value:
            self.lines[*to, "log"] = self._line((*item.place, min(log)))
            value = {"log" if key in log else key: own for key, own in value.items()}
            return value if len(log) == 1 else self._copy(item, to)
        if isinstance(value, dict) and (_is_range(value) or not is_technique(value)):
            return self._copy(item, to)
        listed = [call(part) for part in split(value)] if isinstance(value, str) and value.strip() else value
        if not isinstance(listed, list) or _is_pair(path, listed):
            listed = [listed] if value is not None else value
        if not isinstance(listed, list):
            return self._copy(item, to)
        self.lines[to] = self._line(item.place)
        inside = (lambda index: (*item.place, index)) if listed is value else lambda index: item.place
        return [self._copy(_Item(spelled(path, own), inside(index)), (*to, index)) for index, own in enumerate(listed)]

    def _range(self, path: str, item: _Item, to: Place) -> Any:
        """``{min: a, max: b}`` as ``{uniform: [a, b]}``, or the kind for whole numbers and for ``log: true``."""
        value = item.value
        ends = {ENDS[key]: key for key in value if key in ENDS}
        log = value.get("log", value.get("scale") == "log")
        if len(ends) != 2 or sum(key in ENDS for key in value) != 2 or not isinstance(log, bool):
            raise self._error(
                item, f"{path}: a range is {{min: 1, max: 8}}, with log: true where it is even in the logarithm"
            )
        pair = [value[ends[0]], value[ends[1]]]
        whole = all(type(end) is int for end in pair) and whole_option(path)
        kind = {(False, False): "uniform", (True, False): "log", (False, True): "int", (True, True): "log_int"}[
            log, whole
        ]
        scale = "scale" if value.get("scale") in ("log", "linear", "uniform") else ""
        rest = {key: own for key, own in value.items() if key not in ENDS and key not in ("log", scale)}
        self.lines[to] = self._line(item.place)
        for index in (0, 1):
            self.lines[*to, kind, index] = self._line((*item.place, ends[index]))
        self.lines[*to, kind] = self._line((*item.place, ends[0]))
        return {
            kind: pair,
            **{key: self._copy(_Item(own, (*item.place, key)), (*to, key)) for key, own in rest.items()},
        }

    def _zips(self, item: _Item, to: Place) -> Any:
        if isinstance(item.value, list):
            return self._each(_listed(item), item, to, self._axes)
        return self._axes(item, to)

    def _whens(self, item: _Item, to: Place) -> Any:
        return self._each(_listed(item), item, to, self._when)

    def _when(self, item: _Item, to: Place) -> Any:
        make: dict[str, Callable[[_Item, Place], Any]] = {"if": self._paths, "grid": self._axes, "zip": self._zips}
        if not isinstance(item.value, dict):
            return self._copy(item, to)
        found = {}
        for key, own in _items(item.value, item.place):
            name = meant(key, ("if", "grid", "zip"))
            self.lines[*to, name] = self._line(own.place)
            found[name] = make.get(name, self._copy)(own, (*to, name))
        return found

    def _rules(self, item: _Item, to: Place) -> Any:
        return self._each(_listed(item), item, to, self._paths)

    def _paths(self, item: _Item, to: Place, others: tuple[str, ...] = ()) -> Any:
        """A mapping whose keys are paths, but for ``others``."""
        if not isinstance(item.value, dict):
            return self._copy(item, to)
        found: dict[str, _Item] = {}
        for path, whole in _items(item.value, item.place):
            nested = others and is_nested(path, whole.value)
            for key, own in _items(whole.value, whole.place) if nested else [(path, whole)]:
                key = f"{path}.{key}" if nested else key
                self._once(found, key if key in others else canonical_path(key, heads=not others), own, key)
        return {
            name: self._copy(own if name in others else _Item(spelled(name, own.value), own.place), (*to, name))
            for name, own in found.items()
        }

    # -- the rest

    def _search(self, item: _Item, to: Place) -> Any:
        if isinstance(item.value, str):
            self.lines[*to, "method"] = self._line(item.place)
            return {"method": item.value.casefold()}
        data = self._copy(item, to)
        if isinstance(data, dict):
            if isinstance(data.get("method"), str):
                data["method"] = data["method"].casefold()
            if isinstance(data.get("objectives"), str):
                data["objectives"] = split(data["objectives"])
        return data

    def _seeds(self, item: _Item, to: Place) -> Any:
        if isinstance(item.value, str):
            numbers = [number(part) for part in split(item.value)]
            if None not in numbers:
                return numbers if len(numbers) > 1 else numbers[0]
        return self._copy(item, to)

    def _each(self, items: list[_Item] | None, whole: _Item, to: Place, make: Callable[[_Item, Place], Any]) -> Any:
        if items is None:
            return self._copy(whole, to)
        found = []
        for index, item in enumerate(items):
            self.lines[*to, index] = self._line(item.place)
            found.append(make(item, (*to, index)))
        return found

    def _copy(self, item: _Item, to: Place) -> Any:
        """The value as it is; the lines of everything in it."""
        self.lines[to] = self._line(item.place)
        if isinstance(item.value, dict):
            return {key: self._copy(own, (*to, key)) for key, own in _items(item.value, item.place)}
        if isinstance(item.value, list):
            return [self._copy(_Item(own, (*item.place, i)), (*to, i)) for i, own in enumerate(item.value)]
        return item.value

    def _once(self, found: dict[str, _Item], name: str, item: _Item, key: str) -> None:
        if name in found:
            first = found[name].place[-1] if found[name].place else ""
            raise self._error(
                item, f"{key!r} says the same as {first!r} on line {self._line(found[name].place)}: {name}"
            )
        found[name] = item

    def _misplaced(self, key: str, kind: str, option: str, item: _Item) -> None:
        """Raises UserError for a key of the file that belongs under another one; not for a key nobody knows."""
        if kind == "training":
            raise self._error(item, f"unknown key {key!r}; to vary it write grid: {{training.{option}: [values]}}")
        if kind == "task":
            where = f"tasks: [{{name: {{{option}: value}}}}], or to vary it grid: {{task.{option}: [values]}}"
            raise self._error(item, f"unknown key {key!r}; it is an option of a task: write {where}")
        if kind == "numerics":
            raise self._error(item, f"unknown key {key!r}; to vary it write grid: {{'{option}': [values]}}")

    def _line(self, place: Place) -> int:
        return self._source.line(place)

    def _error(self, item: _Item, message: str) -> UserError:
        return At(self._source, item.place).error(message)


def _items(data: Mapping[str, Any], place: Place) -> list[tuple[str, _Item]]:
    return [(key, _Item(value, (*place, key))) for key, value in data.items()]


def _listed(item: _Item) -> list[_Item] | None:
    """The items of a list; of a text, its parts between commas; a mapping is the only item. None: something else."""
    if isinstance(item.value, list):
        return [_Item(value, (*item.place, index)) for index, value in enumerate(item.value)]
    if isinstance(item.value, str) and item.value.strip():
        return [_Item(part, item.place) for part in split(item.value) if part]
    return [item] if isinstance(item.value, dict) else None


def _head(value: Mapping[str, Any], heads: tuple[str, ...]) -> str:
    """The key whose text is the name, in ``{name: lm, size: small}``; empty where there is none."""
    return next((key for key in heads if len(value) > 1 and isinstance(value.get(key), str)), "")


def _is_list(option: str, value: Any) -> bool:
    """Whether a training setting was given several values."""
    if isinstance(value, str):
        return len(split(value)) > 1
    return isinstance(value, list) and len(value) > 1 and (option != "betas" or any(map(_is_seq, value)))


def _is_pair(path: str, value: Any) -> bool:
    """Whether a list is one value of an axis: the two numbers of ``training.betas``."""
    return path == "training.betas" and isinstance(value, list) and len(value) == 2 and not any(map(_is_seq, value))


def _is_seq(value: Any) -> bool:
    return isinstance(value, list | dict)


def _is_range(value: Mapping[str, Any]) -> bool:
    return any(key in KINDS or key in PARTS or key in ENDS for key in value)


def _only(value: Any, words: Iterable[str]) -> bool:
    values = split(value) if isinstance(value, str) else value
    return isinstance(values, list) and bool(values) and all(isinstance(v, str) and folded(v) in words for v in values)


__all__ = ["written_out"]
