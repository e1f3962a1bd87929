"""The key `exclude`: rules about cells to leave out. A rule names existing axes and values, and matches some cell.

Beside axes a rule may limit a recipe's cost, for which no run is needed: ``{overhead: '> 15 %'}``
(``dse.cost.limits``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dse.cost.limits import COSTS, CostLimit, cost_limit
from dse.errors import UserError, nearest
from dse.numerics.recipe import Recipe
from dse.sweep.language.labels import Label
from dse.sweep.language.match import match_labels, without_parameters
from dse.sweep.language.source import Location, YamlSource


@dataclass(eq=False)
class ExcludeRule:
    """A rule. A cell matches when ``labels`` holds its label on each axis of the rule; ``matched`` counts the cells.

    ``names``: tasks of which every label matches, also with options that a search has not drawn yet; ``limits``: of the
    recipe's cost, which hold too.
    """

    labels: Mapping[str, frozenset[Label]]
    names: frozenset[Label]
    at: Location
    reason: str
    limits: tuple[CostLimit, ...] = ()
    matched: int = 0

    def matches(self, labels: Mapping[str, Label], recipe: Recipe) -> bool:
        return all(
            labels[axis] in allowed or (axis == "task" and without_parameters(labels[axis]) in self.names)
            for axis, allowed in self.labels.items()
        ) and all(limit.met(recipe) for limit in self.limits)


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

    def reason(self, labels: Mapping[str, Label], recipe: Recipe) -> str:
        """Why the cell with these labels and this recipe is left out, or nothing."""
        reason = ""
        for rule in self.rules:
            if rule.matches(labels, recipe):
                rule.matched += 1
                reason = reason or rule.reason
        return reason

    def check_all_matched(self) -> None:
        """Raises UserError (file:line) for a rule that matched nothing; one with a limit of a cost may."""
        for rule in self.rules:
            if not rule.matched and not rule.limits:
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
    limits = []
    for axis, raw in rule.items():
        inside = at / axis
        if axis in COSTS and axis not in axes:
            limits.append(_limit(inside, axis, raw))
            continue
        if axis not in axes:
            raise inside.error(f"exclude: no axis {axis!r}{nearest(axis, [*axes, *COSTS])}")
        if not axes[axis]:
            raise inside.error(f"exclude: {axis} is a range; a rule needs an axis with a list of values")
        labels = match_labels(inside, "exclude", axis, raw, axes[axis], task_names if axis == "task" else None)
        found[axis] = labels
        if axis == "task":
            names = frozenset(task_names.values()) - {task_names[str(k)] for k in axes[axis] if k not in labels}
    where = f"line {at.line}" + ("" if at.source is main else f" of {at.source.path}")
    return ExcludeRule(found, names, at, f"excluded on {where}", tuple(limits))


def _limit(at: Location, cost: str, raw: object) -> CostLimit:
    try:
        return cost_limit(cost, raw)
    except UserError as error:
        raise at.error(f"exclude: {error}") from None
