"""Expansion of the shorthands of `recipes` and `baseline`, and of lists of names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dse.errors import nearest
from dse.recipes import RECIPES
from dse.sweep.language.source import KeyPath
from dse.sweep.language.words import is_pattern, match_pattern, split_list
from dse.sweep.read.rewriter import LocatedValue, list_items, mapping_items
from dse.sweep.read.shorthand_axes import AxisRewriter
from dse.tasks.own import is_path


class RecipeRewriter(AxisRewriter):
    """Expands ``recipes``, ``baseline``, and lists of names that may have patterns among them."""

    def _named(
        self, item: LocatedValue, key: str, known: Iterable[str], heads: tuple[str, ...]
    ) -> list[LocatedValue] | None:
        """The items of a list of names and ``{name: ...}``; a word, words with commas and a mapping are such lists."""
        parts = list_items(item)
        if isinstance(item.value, dict):
            parts = [LocatedValue({name: own.value}, item.place) for name, own in mapping_items(item.value, item.place)]
            if head_of(item.value, heads):
                parts = [item]
        if parts is None:
            return None
        found: list[LocatedValue] = []
        names: list[str] = [
            str(next(iter(i.value))) if isinstance(i.value, dict) and i.value else str(i.value) for i in parts
        ]
        for own in parts:
            if not is_pattern(own.value) or is_path(own.value) or own.value in known:
                found.append(own)
                continue
            fitting = match_pattern(own.value, known)
            if not fitting:
                raise self._error(own, f"{key}: no {key[:-1]} matches {own.value!r}{nearest(own.value, known)}")
            found += [LocatedValue(name, own.place) for name in fitting if name not in names]
            names += fitting
        return found

    def _recipes(self, item: LocatedValue, to: KeyPath) -> Any:
        return self._each(self._named(item, "recipes", RECIPES, ("name", "label")), item, to, self._recipe)

    def _recipe(self, item: LocatedValue, to: KeyPath) -> Any:
        value: Any = item.value
        if isinstance(value, dict) and "base" in value and (head := head_of(value, ("name", "label"))):
            inner = {key: own for key, own in value.items() if key != head}
            self.lines[*to, value[head]] = self._line((*item.place, head))
            return {value[head]: self._paths(LocatedValue(inner, item.place), (*to, value[head]), ("base",))}
        if not isinstance(value, dict) or len(value) != 1:
            return self._copy(item, to)
        label, inner = next(iter(value.items()))
        own, place = LocatedValue(inner, (*item.place, label)), (*to, label)
        self.lines[place] = self._line(own.place)
        if isinstance(inner, str):
            self.lines[*place, "base"] = self._line(own.place)
            return {label: {"base": inner}}
        if isinstance(inner, dict):
            renamed = {"base" if key == "recipe" and "base" not in inner else key: v for key, v in inner.items()}
            for key in inner.keys() - renamed.keys():
                self.lines[*place, "base"] = self._line((*own.place, key))
            return {label: self._paths(LocatedValue(renamed, own.place), place, ("base",))}
        return {label: self._copy(own, place)}

    def _baseline(self, item: LocatedValue, to: KeyPath) -> Any:
        if isinstance(item.value, str) and len(split_list(item.value)) > 1 and item.value not in RECIPES:
            return self._copy(LocatedValue([part for part in split_list(item.value) if part], item.place), to)
        if isinstance(item.value, list):
            return self._each(list_items(item), item, to, self._config)
        return self._config(item, to)

    def _config(self, item: LocatedValue, to: KeyPath) -> Any:
        value = item.value
        if isinstance(value, dict) and len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
            name = next(iter(value))
            self.lines[*to, name] = self._line((*item.place, name))
            return {name: self._paths(LocatedValue(inner, (*item.place, name)), (*to, name), ("recipe",))}
        if isinstance(value, dict) and "recipe" in value:
            return self._paths(item, to, ("recipe",))
        return self._copy(item, to)


def head_of(value: Mapping[str, Any], heads: tuple[str, ...]) -> str:
    """The key whose text is the name, in ``{name: lm, size: small}``; empty where there is none."""
    return next((key for key in heads if len(value) > 1 and isinstance(value.get(key), str)), "")


__all__ = ["RecipeRewriter", "head_of"]
