"""`exclude`: partial cells to leave out. Every rule must name axes and values that exist, and must match something."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dse.errors import nearest
from dse.sweep.labels import Label, label_of, text_of
from dse.sweep.numerics import option_data
from dse.sweep.source import Place, Source


@dataclass
class Rule:
    """A cell matches when its label on each axis is one of those listed; ``matched`` counts the cells."""

    wanted: Mapping[str, Collection[Label]]
    place: Place
    reason: str
    matched: int = 0

    def matches(self, labels: Mapping[str, Label]) -> bool:
        return all(labels[axis] in wanted for axis, wanted in self.wanted.items())


class Exclusion:
    """All rules of a sweep."""

    def __init__(
        self,
        source: Source,
        rules: Collection[Mapping[str, Any]],
        axes: Mapping[str, Collection[Label]],
        task_names: Mapping[str, str],
    ) -> None:
        """``axes``: every label there is on each axis. ``task_names``: a task's label -> its plain name.

        Raises UserError (file:line) for an axis or a value that does not exist.
        """
        self._source = source
        self.rules = [_rule(source, index, rule, axes, task_names) for index, rule in enumerate(rules)]

    def reason(self, labels: Mapping[str, Label]) -> str:
        """Why the cell is left out, or nothing."""
        reason = ""
        for rule in self.rules:
            if rule.matches(labels):
                rule.matched += 1
                reason = reason or rule.reason
        return reason

    def refuse_idle(self) -> None:
        """Raises UserError (file:line) for a rule that matched nothing."""
        for rule in self.rules:
            if not rule.matched:
                raise self._source.error(rule.place, "exclude: no cell matches; its values never occur together")


def _rule(
    source: Source,
    index: int,
    rule: Mapping[str, Any],
    axes: Mapping[str, Collection[Label]],
    task_names: Mapping[str, str],
) -> Rule:
    place: Place = ("exclude", index)
    if not rule:
        raise source.error(place, "exclude: an empty rule would exclude everything")
    wanted = {}
    for axis, raw in rule.items():
        if axis not in axes:
            raise source.error((*place, axis), f"exclude: no axis {axis!r}{nearest(axis, axes)}")
        values = raw if isinstance(raw, list) else [raw]
        known = {_exact(k): k for k in [*axes[axis], *(task_names.values() if axis == "task" else ())]}
        labels: set[Label] = set()
        for value in values:
            label = known.get(_exact(label_of(option_data(value))))
            if label is None:
                near = nearest(text_of(value), map(text_of, known.values()))
                raise source.error((*place, axis), f"exclude: axis {axis!r} has no value {text_of(value)!r}{near}")
            labels |= {task for task, name in task_names.items() if axis == "task" and name == label} or {label}
        if not labels:
            raise source.error((*place, axis), f"exclude: {axis}: the list is empty")
        wanted[axis] = labels
    return Rule(wanted, place, f"excluded on line {source.line(place)}")


def _exact(label: Label) -> tuple[bool, Label]:
    """A key under which 16 and 16.0 are the same, but True and 1 are not."""
    return isinstance(label, bool), label
