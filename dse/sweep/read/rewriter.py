"""Base class of rewriters of sweep data. A rewriter copies values, and keeps the line of the file for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dse.errors import UserError
from dse.sweep.language.source import KeyPath, Location, YamlSource
from dse.sweep.language.words import split_list


@dataclass(frozen=True)
class LocatedValue:
    """A value, and where it stood in the file."""

    value: Any
    place: KeyPath


class Rewriter:
    """Copies data of ``source`` to new places; ``lines`` are those of all places that were written so far."""

    def __init__(self, source: YamlSource) -> None:
        self._source = source
        self.lines: dict[KeyPath, int] = {(): source.line(())}

    def _each(
        self,
        parts: list[LocatedValue] | None,
        whole: LocatedValue,
        to: KeyPath,
        make: Callable[[LocatedValue, KeyPath], Any],
    ) -> Any:
        if parts is None:
            return self._copy(whole, to)
        found = []
        for index, item in enumerate(parts):
            self.lines[*to, index] = self._line(item.place)
            found.append(make(item, (*to, index)))
        return found

    def _copy(self, item: LocatedValue, to: KeyPath) -> Any:
        """The value as it is; the lines of everything in it."""
        self.lines[to] = self._line(item.place)
        if isinstance(item.value, dict):
            return {key: self._copy(own, (*to, key)) for key, own in mapping_items(item.value, item.place)}
        if isinstance(item.value, list):
            return [self._copy(LocatedValue(own, (*item.place, i)), (*to, i)) for i, own in enumerate(item.value)]
        return item.value

    def _once(self, found: dict[str, LocatedValue], name: str, item: LocatedValue, key: str) -> None:
        if name in found:
            first = found[name].place[-1] if found[name].place else ""
            raise self._error(
                item, f"{key!r} says the same as {first!r} on line {self._line(found[name].place)}: {name}"
            )
        found[name] = item

    def _line(self, place: KeyPath) -> int:
        return self._source.line(place)

    def _error(self, item: LocatedValue, message: str) -> UserError:
        return Location(self._source, item.place).error(message)


def mapping_items(data: Mapping[str, Any], place: KeyPath) -> list[tuple[str, LocatedValue]]:
    """The entries of a mapping at a place, by their keys."""
    return [(key, LocatedValue(value, (*place, key))) for key, value in data.items()]


def list_items(item: LocatedValue) -> list[LocatedValue] | None:
    """The items of a list; of a text, its parts between commas; a mapping is the only item. None: something else."""
    if isinstance(item.value, list):
        return [LocatedValue(value, (*item.place, index)) for index, value in enumerate(item.value)]
    if isinstance(item.value, str) and item.value.strip():
        return [LocatedValue(part, item.place) for part in split_list(item.value) if part]
    return [item] if isinstance(item.value, dict) else None


__all__ = ["LocatedValue", "Rewriter", "list_items", "mapping_items"]
