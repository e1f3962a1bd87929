"""The key `exclude`: rules about cells to leave out. A rule names existing axes and values, and matches some cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dse.errors import nearest
from dse.sweep.language.labels import Label
from dse.sweep.language.match import match_labels, without_parameters
from dse.sweep.language.source import Location, YamlSource


@dataclass(eq=False)
class ExcludeRule:
    """A rule. A cell matches when ``labels`` holds its label on each axis of the rule; ``matched`` counts the cells.

    ``names``: tasks of which every label matches, also with options that a search has not drawn yet.
    """

    labels: Mapping[str, frozenset[Label]]
    names: frozenset[Label]
    at: Location
    reason: str
    matched: int = 0

    def matches(self, labels: Mapping[str, Label]) -> bool:
        return all(
            labels[axis] in allowed or (axis == "task" and without_parameters(labels[axis]) in self.names)
            for axis, allowed in self.labels.items()
        )


class Exclusion:
    """All rules of a sweep."""

    def __init__(
        self,
        rules: Sequence[tuple[Location, Mapping[str, Any]]],
        axes: Mapping[str, Collection[Label]],
        task_names: Mapping[str, str],
        main: YamlSource,
    ) -> None:
        """``axes``: every label there is on each axis, none for a range. ``task_names``: a task's label -> its name.

        Raises UserError (file:line) for an axis or a value that does not exist.
        """
        self.rules = [_rule(at, rule, axes, task_names, main) for at, rule in rules]

    def reason(self, labels: Mapping[str, Label]) -> str:
        """Why the cell is left out, or nothing."""
        reason = ""
        for rule in self.rules:
            if rule.matches(labels):
                rule.matched += 1
                reason = reason or rule.reason
        return reason

    def check_all_matched(self) -> None:
        """Raises UserError (file:line) for a rule that matched nothing."""
        for rule in self.rules:
            if not rule.matched:
                raise rule.at.error("exclude: no cell matches; its values never occur together")


def _rule(
    at: Location,
    rule: Mapping[str, Any],
    axes: Mapping[str, Collection[Label]],
    task_names: Mapping[str, str],
    main: YamlSource,
) -> ExcludeRule:
    if not rule:
        raise at.error("exclude: an empty rule would exclude everything")
    found: dict[str, frozenset[Label]] = {}
    names: frozenset[Label] = frozenset()
    for axis, raw in rule.items():
        inside = at / axis
        if axis not in axes:
            raise inside.error(f"exclude: no axis {axis!r}{nearest(axis, axes)}")
        if not axes[axis]:
            raise inside.error(f"exclude: {axis} is a range; a rule needs an axis with a list of values")
        labels = match_labels(inside, "exclude", axis, raw, axes[axis], task_names if axis == "task" else None)
        found[axis] = labels
        if axis == "task":
            names = frozenset(task_names.values()) - {task_names[str(k)] for k in axes[axis] if k not in labels}
    where = f"line {at.line}" + ("" if at.source is main else f" of {at.source.path}")
    return ExcludeRule(found, names, at, f"excluded on {where}")
