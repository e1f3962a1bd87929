"""Axes and dimensions of a sweep.

A dimension is one axis, or several that are zipped. It varies independently of the other dimensions, and applies to the
cells that meet its condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from dse.errors import UserError, nearest
from dse.numerics.recipe import SELECTORS, is_option_path
from dse.sweep.language.labels import HEAD, Label, label_of, text_of
from dse.sweep.language.numerics import option_data
from dse.sweep.language.option_names import spelling_hint
from dse.sweep.language.ranges import Range, read_range
from dse.sweep.language.source import Location
from dse.sweep.language.values import task_value, training_value

NUMERICS, TRAINING, TASK = "numerics", "training", "task"
"""The three kinds of axes: what a path may set."""

Condition = Mapping[str, frozenset[Label]]
"""Axis -> the labels of which a cell must have one. ``task`` speaks of the entries of `tasks`."""


@dataclass(frozen=True, eq=False)
class Axis:
    """A path and its values. ``option`` is the path without its kind ('lr' of 'training.lr'); a numerics path whole.

    ``values`` is a list or a Range; ``labels`` are those of the list.
    """

    path: str
    kind: str
    option: str
    values: tuple[Any, ...] | Range
    labels: tuple[Label, ...]
    at: Location

    def value(self, label: Label) -> Any:
        """The value that a label stands for; of a range, the number itself. Raises KeyError for none of them."""
        if isinstance(self.values, Range):
            if isinstance(label, int | float) and not isinstance(label, bool):
                return _typed(self.kind, self.option, label)
        elif label in self.labels:
            return self.values[self.labels.index(label)]
        raise KeyError(label)

    def location_of(self, index: int) -> Location:
        """Where its value number ``index`` stands; of a range, number 0 and 1 are its ends."""
        return self.at / self.values.kind / index if isinstance(self.values, Range) else self.at / index


@dataclass(frozen=True, eq=False)
class Dimension:
    """One axis, or several that take their first values together, their second ones, and so on.

    ``section`` is the key that it stands under: grid, zip or when. ``number`` tells those of the same axes apart.
    """

    axes: tuple[Axis, ...]
    condition: Condition
    at: Location
    section: str
    number: int = 1

    @property
    def name(self) -> str:
        """The path; of zipped axes, their paths; with a number from the second dimension of this name on."""
        return " + ".join(axis.path for axis in self.axes) + (f" #{self.number}" if self.number > 1 else "")

    @property
    def range(self) -> Range | None:
        """The range that its values are drawn from, if they are no list."""
        values = self.axes[0].values
        return values if isinstance(values, Range) else None

    @cached_property
    def rows(self) -> tuple[tuple[Label, ...], ...]:
        """The labels that the axes take together; none for a range."""
        return tuple(zip(*(axis.labels for axis in self.axes), strict=True))

    @cached_property
    def choices(self) -> tuple[Label, ...]:
        """A row each, as one label: that of the axis, or the text of those that are zipped."""
        if len(self.axes) == 1:
            return self.axes[0].labels
        texts = [", ".join(map(text_of, row)) for row in self.rows]
        return tuple(texts) if len(set(texts)) == len(texts) else tuple(range(len(texts)))

    def discretized(self) -> Dimension:
        """The same with the range's levels as a list, for a grid search."""
        values = self.axes[0].values
        if not isinstance(values, Range):
            return self
        axis = self.axes[0]
        found = tuple(axis.value(number) for number in values.grid_points())
        return replace(self, axes=(replace(axis, values=found, labels=tuple(map(label_of, found))),))

    def applies(self, labels: Mapping[str, Label]) -> bool:
        """Whether a cell with these labels has this dimension."""
        return all(axis in labels and labels[axis] in wanted for axis, wanted in self.condition.items())


def grid_dimension(at: Location, path: str, raw: Any, condition: Condition, section: str) -> Dimension:
    """An item of `grid`. Raises UserError (file:line)."""
    axis = _axis(at, path, raw, section)
    if (index := first_duplicate(axis.labels)) is not None:
        raise (at / index).error(f"{section}: {path} lists {axis.labels[index]!r} twice")
    return Dimension((axis,), condition, at, section)


def zip_dimension(at: Location, group: Mapping[str, Any], condition: Condition, section: str) -> Dimension:
    """A group of `zip`. Raises UserError (file:line)."""
    axes = tuple(_axis(at / path, path, raw, section) for path, raw in group.items())
    for axis in axes:
        if len(axis.labels) != len(axes[0].labels):
            few = f"{axes[0].path} has {len(axes[0].labels)} values, {axis.path} has {len(axis.labels)}"
            raise axis.at.error(f"{section}: {few}; zipped axes need as many each")
    dimension = Dimension(axes, condition, at, section)
    if (index := first_duplicate(dimension.rows)) is not None:
        raise (axes[0].at / index).error(f"{section}: {dimension.name} lists {list(dimension.rows[index])} twice")
    return dimension


def first_duplicate(items: Sequence[Any]) -> int | None:
    """The index of the first item that was there before, if any was."""
    seen: set[Any] = set()
    for index, item in enumerate(items):
        if item in seen:
            return index
        seen.add(item)
    return None


def unknown_point_message(path: str, others: tuple[str, ...]) -> str:
    """Why a path names no quantization point, nor one of the ``others`` that may stand first."""
    head = path.split(".")[0]
    if head in others:
        return f"{path!r} names no option; write for example {'training.lr' if head == TRAINING else 'task.size'}"
    tail = spelling_hint(path) or nearest(head, [*SELECTORS, *others])
    return f"{path}: no quantization point {head!r}{tail}"


def _axis(at: Location, path: str, raw: Any, section: str) -> Axis:
    kind, _, option = path.partition(".")
    if kind in (TRAINING, TASK) and option:
        pass
    elif is_option_path(path):
        kind, option = NUMERICS, path
    elif path in HEAD:
        raise at.error(f"{section}: {path}s have a list of their own; write them under {path}s:")
    else:
        raise at.error(f"{section}: {unknown_point_message(path, (TRAINING, TASK))}")
    if isinstance(raw, Mapping):
        values = read_range(at, f"{section}: {path}", raw)
        for end, number in enumerate((values.low, values.high)):
            typed = _value(at / values.kind / end, section, kind, option, number)
            if type(typed) is int and not values.whole:
                whole = "log_int" if values.log else "int"
                raise (at / values.kind / end).error(f"{section}: {path} takes whole numbers; write {{{whole}: [...]}}")
        return Axis(path, kind, option, values, (), at)
    typed = tuple(_value(at / index, section, kind, option, value) for index, value in enumerate(raw))
    return Axis(path, kind, option, typed, tuple(map(label_of, typed)), at)


def _value(at: Location, section: str, kind: str, option: str, value: Any) -> Any:
    """A value with its type, and checked as far as it can be without a task or a recipe."""
    try:
        return _typed(kind, option, value)
    except UserError as error:
        raise at.error(f"{section}: {error}") from None


def _typed(kind: str, option: str, value: Any) -> Any:
    if kind == NUMERICS:
        return option_data(value)
    return training_value(option, value) if kind == TRAINING else task_value(option, value)
