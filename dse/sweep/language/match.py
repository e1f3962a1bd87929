"""Matching of labels: which labels of an axis a value in `exclude` or `when` stands for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from dse.errors import nearest
from dse.sweep.language.labels import Label, label_of, text_of
from dse.sweep.language.numerics import option_data
from dse.sweep.language.source import Location
from dse.sweep.language.words import is_pattern, match_choice, match_pattern

NOT = "not"


def without_parameters(label: Label) -> Label:
    """A label without its parameters.

    >>> plain("hadamard(size=32)")
    'hadamard'
    """
    return label.split("(", 1)[0] if isinstance(label, str) and label.endswith(")") else label


def match_labels(
    at: Location, section: str, axis: str, raw: Any, labels: Collection[Label], names: Mapping[Any, str] | None = None
) -> frozenset[Label]:
    """The labels of ``axis`` that ``raw`` means: a value, a list of values, or {not: one of these}.

    A value is written as in the grid, or as its label. A name without parameters means the label that is just so, and
    every label that begins with it where there is none; ``names`` tells a label's name where it always counts (tasks).
    Raises UserError (file:line) for a value that the axis does not have, and when no label is left.
    """
    if isinstance(raw, Mapping) and set(raw) == {NOT}:
        unwanted = match_labels(at, section, axis, raw[NOT], labels, names)
        found = frozenset(labels) - unwanted
        if not found:
            raise at.error(f"{section}: axis {axis!r} has no value but those")
        return found
    values = raw if isinstance(raw, list) else [raw]
    exact = {_exact(label): label for label in labels}
    found = frozenset()
    for value in values:
        label = label_of(value) if _exact(label_of(value)) in exact else label_of(option_data(value))
        if axis in ("task", "recipe"):
            label = match_choice(label, [*map(str, labels), *(names or {}).values()])
        own = {known for known in labels if names is not None and names[known] == label}
        if not own and _exact(label) in exact:
            own = {exact[_exact(label)]}
        own = own or {known for known in labels if axis != "recipe" and without_parameters(known) == label}
        if not own and axis == "recipe" and is_pattern(value):
            own = set(match_pattern(value, [known for known in labels if isinstance(known, str)]))
        if not own:
            near = nearest(text_of(value), _spoken(axis, labels, names))
            raise at.error(f"{section}: axis {axis!r} has no value {text_of(value)!r}{near}")
        found |= own
    if not found:
        raise at.error(f"{section}: {axis}: the list is empty")
    return found


def _spoken(axis: str, labels: Iterable[Label], names: Mapping[Any, str] | None) -> list[str]:
    """Every word that the axis would have understood."""
    own = [text_of(label) for label in labels]
    return [*own, *(names or {}).values()]


def _exact(label: Label) -> tuple[bool, Label]:
    """A key under which 16 and 16.0 are the same, but True and 1 are not."""
    return isinstance(label, bool), label
