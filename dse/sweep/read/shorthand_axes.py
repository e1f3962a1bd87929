"""Expansion of the shorthands of axes: paths, lists of values, ranges, and the rules that refer to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dse.sweep.language.option_names import canonical_path, is_nested, takes_integers
from dse.sweep.language.ranges import ENDS, KINDS, PARTS
from dse.sweep.language.source import KeyPath
from dse.sweep.language.values import normalize_value
from dse.sweep.language.words import fold, is_technique, match_choice, parse_call, split_list
from dse.sweep.read.rewriter import LocatedValue, Rewriter, list_items, mapping_items
from dse.tasks.base import SCHEDULES


class AxisRewriter(Rewriter):
    """Writes out ``grid``, ``zip``, ``when`` and ``exclude``, and mappings whose keys are paths of options."""

    def _axes(self, item: LocatedValue, to: KeyPath) -> Any:
        """``grid``: every axis with its list of values, or its range."""
        if not isinstance(item.value, dict):
            return self._copy(item, to)
        found: dict[str, LocatedValue] = {}
        for key, own in mapping_items(item.value, item.place):
            kind = match_choice(key, ("training", "task"))
            nested = isinstance(own.value, dict) and kind in ("training", "task")
            nested = nested or (is_nested(key, own.value) and not _is_range(own.value))
            kind = key if kind not in ("training", "task") else kind
            for path, inner in mapping_items(own.value, own.place) if nested else [(key, own)]:
                name = canonical_path(f"{kind}.{path}" if nested else path)
                if name == "schedule" and _only(inner.value, SCHEDULES):
                    name = "training.schedule"
                self._once(found, name, inner, path)
        return {name: self._values(name, own, (*to, name)) for name, own in found.items()}

    def _values(self, path: str, item: LocatedValue, to: KeyPath) -> Any:
        value = item.value
        if isinstance(value, dict) and any(key in ENDS for key in value):
            return self._range(path, item, to)
        if isinstance(value, dict) and (log := value.keys() & {"loguniform", "log_uniform"}) and "log" not in value:
            self.lines[*to, "log"] = self._line((*item.place, min(log)))
            value = {"log" if key in log else key: own for key, own in value.items()}
            return value if len(log) == 1 else self._copy(item, to)
        if isinstance(value, dict) and (_is_range(value) or not is_technique(value)):
            return self._copy(item, to)
        found = [parse_call(part) for part in split_list(value)] if isinstance(value, str) and value.strip() else value
        if not isinstance(found, list) or _is_pair(path, found):
            found = [found] if value is not None else value
        if not isinstance(found, list):
            return self._copy(item, to)
        self.lines[to] = self._line(item.place)
        inside = (lambda index: (*item.place, index)) if found is value else lambda index: item.place
        return [
            self._copy(LocatedValue(normalize_value(path, own), inside(index)), (*to, index))
            for index, own in enumerate(found)
        ]

    def _range(self, path: str, item: LocatedValue, to: KeyPath) -> Any:
        """``{min: a, max: b}`` as ``{uniform: [a, b]}``, or the kind for whole numbers and for ``log: true``."""
        value = item.value
        ends = {ENDS[key]: key for key in value if key in ENDS}
        log = value.get("log", value.get("scale") == "log")
        if len(ends) != 2 or sum(key in ENDS for key in value) != 2 or not isinstance(log, bool):
            raise self._error(
                item, f"{path}: a range is {{min: 1, max: 8}}, with log: true where it is even in the logarithm"
            )
        pair = [value[ends[0]], value[ends[1]]]
        whole = all(type(end) is int for end in pair) and takes_integers(path)
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
            **{key: self._copy(LocatedValue(own, (*item.place, key)), (*to, key)) for key, own in rest.items()},
        }

    def _zips(self, item: LocatedValue, to: KeyPath) -> Any:
        if isinstance(item.value, list):
            return self._each(list_items(item), item, to, self._axes)
        return self._axes(item, to)

    def _whens(self, item: LocatedValue, to: KeyPath) -> Any:
        return self._each(list_items(item), item, to, self._when)

    def _when(self, item: LocatedValue, to: KeyPath) -> Any:
        make: dict[str, Callable[[LocatedValue, KeyPath], Any]] = {
            "if": self._paths,
            "grid": self._axes,
            "zip": self._zips,
        }
        if not isinstance(item.value, dict):
            return self._copy(item, to)
        found = {}
        for key, own in mapping_items(item.value, item.place):
            name = match_choice(key, ("if", "grid", "zip"))
            self.lines[*to, name] = self._line(own.place)
            found[name] = make.get(name, self._copy)(own, (*to, name))
        return found

    def _rules(self, item: LocatedValue, to: KeyPath) -> Any:
        return self._each(list_items(item), item, to, self._paths)

    def _paths(self, item: LocatedValue, to: KeyPath, others: tuple[str, ...] = ()) -> Any:
        """A mapping whose keys are paths, but for ``others``."""
        if not isinstance(item.value, dict):
            return self._copy(item, to)
        found: dict[str, LocatedValue] = {}
        for path, whole in mapping_items(item.value, item.place):
            nested = others and is_nested(path, whole.value)
            for key, own in mapping_items(whole.value, whole.place) if nested else [(path, whole)]:
                key = f"{path}.{key}" if nested else key
                self._once(found, key if key in others else canonical_path(key, heads=not others), own, key)
        return {
            name: self._copy(
                own if name in others else LocatedValue(normalize_value(name, own.value), own.place), (*to, name)
            )
            for name, own in found.items()
        }


def _is_pair(path: str, value: Any) -> bool:
    """Whether a list is one value of an axis: the two numbers of ``training.betas``."""
    return path == "training.betas" and isinstance(value, list) and len(value) == 2 and not any(map(is_seq, value))


def _is_range(value: Mapping[str, Any]) -> bool:
    return any(key in KINDS or key in PARTS or key in ENDS for key in value)


def _only(value: Any, words: Iterable[str]) -> bool:
    values = split_list(value) if isinstance(value, str) else value
    return isinstance(values, list) and bool(values) and all(isinstance(v, str) and fold(v) in words for v in values)


def is_seq(value: Any) -> bool:
    """Whether a value has parts."""
    return isinstance(value, list | dict)


__all__ = ["AxisRewriter", "is_seq"]
