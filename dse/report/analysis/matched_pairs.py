"""Matched pairs: cells that differ on one axis only, and the differences of their gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dse.report.analysis.tidy import TidyTable, label_text
from dse.results.record import DIVERGED

if TYPE_CHECKING:
    from dse.sweep import Cell

RECIPE = "recipe"
_BEFORE = 2  # labels before those of the axes: task and seed


@dataclass(frozen=True)
class MatchedPair:
    """The difference of two cells; or a single cell, whose gap is its difference from the baseline.

    ``against``: the uid that was subtracted, '' for a single cell; of a difference of pairs, both uids of each.
    """

    uid: str
    task: str
    seed: str
    recipe: str
    lost: float
    gap: float
    diverged: bool
    only_reference_diverged: bool = False
    baseline: bool = False
    against: str = ""


CellsByLabels = dict[tuple[str, ...], dict[str, MatchedPair]]
"""Labels on all other axes -> value on this axis -> the cell, as a pair with its baseline."""


def cells_by_axis(table: TidyTable) -> dict[str, CellsByLabels]:
    """For the recipe and each grid axis. A cell stands under every set of labels that it is the trial of.

    Baselines are there too: the gap of what differs from one in a single option is that option's effect.
    """
    axes = [RECIPE, *table.axes]
    wide: dict[str, CellsByLabels] = {axis: {} for axis in axes}
    columns = ["uid", "task", "seed", "recipe", "lost", "gap", "status"]
    for uid, task, seed, recipe, lost, gap, status in table.frame[columns].itertuples(index=False, name=None):
        cell = table.cells[uid]
        single = MatchedPair(uid, task, seed, recipe, lost, gap, status == DIVERGED, baseline=cell.is_baseline)
        for labels in (cell.labels, *cell.also):
            texts = [label_text(labels.get(axis)) for axis in axes]
            for i, axis in enumerate(axes):
                name, same = _task(cell, axis)
                others = (same, seed, *texts[:i], *texts[i + 1 :])
                wide[axis].setdefault(others, {})[texts[i]] = single if name == task else replace(single, task=name)
    return wide


def comparable(wide: CellsByLabels) -> CellsByLabels:
    """The entries with at least two values, which can be compared."""
    return {others: by for others, by in wide.items() if len(by) > 1}


def paired_differences(wide: CellsByLabels, value: str, reference: str) -> list[MatchedPair]:
    """``value`` minus ``reference``, once for each two trials that are both there and not the very same.

    Two baselines make no pair: both gaps are zero by definition.
    """
    pairs = paired_by_labels(wide, value, reference).values()
    return list({(pair.uid, pair.against): pair for pair in pairs}.values())


def paired_by_labels(wide: CellsByLabels, value: str, reference: str) -> dict[tuple[str, ...], MatchedPair]:
    """The same by the labels on all other axes; one that stands for several sets of labels is there under each."""
    both = {others: (by[value], by[reference]) for others, by in wide.items() if value in by and reference in by}
    return {
        others: difference(a, b)
        for others, (a, b) in both.items()
        if a.uid != b.uid and not (a.baseline and b.baseline)
    }


def difference(a: MatchedPair, b: MatchedPair) -> MatchedPair:
    """``a`` minus ``b``: of two cells, or of two pairs."""
    return replace(
        a,
        uid=a.uid + a.against,
        against=b.uid + b.against,
        lost=a.lost - b.lost,
        gap=a.gap - b.gap,
        diverged=a.diverged and not b.diverged,
        only_reference_diverged=b.diverged and not a.diverged,
    )


def place_of(axes: Sequence[str], axis: str, other: str) -> int:
    """Where the label on ``other`` stands among the labels by which ``cells_by_axis`` groups along ``axis``."""
    rest = [name for name in axes if name != axis]
    return _BEFORE + rest.index(other)


def _task(cell: Cell, axis: str) -> tuple[str, str]:
    """The task's label and what must agree about it; along an axis of the task itself, both without that option."""
    kind, _, option = axis.partition(".")
    label = label_text(cell.labels["task"])
    if kind != "task":
        return label, label
    options = {name: value for name, value in cell.trial.spec["options"].items() if name != option}
    return cell.trial.task.name, f"{cell.trial.task.name} {sorted(options.items())}"
