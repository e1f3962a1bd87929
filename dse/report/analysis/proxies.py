"""Cheaper proxies of a ranking: from which step, and from which size of a task on, it is decided.

The pairs of configurations whose final order is beyond the noise are compared with their order at an earlier step, or
on a smaller task: a proxy is good enough once it reverses at most one in twenty of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dse.report.analysis.agreement import compare_tasks
from dse.report.analysis.rank_correlation import kendall
from dse.report.analysis.task_ranking import MIN_CONFIGS, TaskRanking, decided_differences, task_ranking
from dse.report.analysis.tidy import TidyTable, label_text
from dse.stats import estimate

if TYPE_CHECKING:
    from dse.results.record import Record

TOLERATED = 0.05
"""Share of the decided pairs that a proxy may reverse."""
_SMOOTH = 15
"""A training loss is the mean over this share of the curve before the step; both trials saw the same batches."""
_MOST = 200
"""Configurations that are compared: the best ones, as pairs grow with their square."""


@dataclass(frozen=True)
class ProxyStep:
    """A task's ranking at a step: Kendall's tau with the final one, and of ``decided`` pairs how many are reversed."""

    step: int
    tau: float
    reversed: int


@dataclass(frozen=True)
class StepProxy:
    """A task's ranking over its steps, by its 'held-out metric' or its 'training loss' (``kind``).

    ``decided``: pairs whose final order is beyond the noise; ``enough``: the first step from which on at most
    TOLERATED of them are ever reversed, None where the last is the first such.
    """

    task: str
    kind: str
    decided: int
    last: int
    steps: list[ProxyStep]

    @property
    def enough(self) -> int | None:
        found = None
        for one in reversed(self.steps):
            if one.reversed > TOLERATED * self.decided:
                break
            found = one.step
        return found


@dataclass(frozen=True)
class SizeProxy:
    """A task's ranking against that of its slowest variant, ``reference``: the columns of ``ProxyStep``, and times."""

    task: str
    reference: str
    seconds: float
    reference_seconds: float
    tau: float
    decided: int
    reversed: int

    @property
    def enough(self) -> bool:
        return self.decided > 0 and self.reversed <= TOLERATED * self.decided


def step_proxies(table: TidyTable) -> list[StepProxy]:
    """One per task with a decided pair and earlier steps to compare."""
    found = (_steps(table, ranking) for task in table.tasks if (ranking := task_ranking(table, task)))
    return [one for one in found if one]


def size_proxies(table: TidyTable) -> list[SizeProxy]:
    """For each task that the sweep has in several variants: the quicker ones, each against the slowest."""
    families: dict[str, dict[str, None]] = {}
    for cell in table.cells.values():
        families.setdefault(cell.trial.task.name, {})[label_text(cell.labels["task"])] = None
    found = []
    for labels in families.values():
        known = [one for task in table.tasks if task in labels and (one := task_ranking(table, task)) and one.means]
        slowest = max(known, key=lambda one: one.seconds, default=None)
        for one in sorted(known, key=lambda one: one.seconds):
            if slowest is None or one is slowest:
                continue
            compared = compare_tasks(one, slowest)
            if compared.tau.n:
                found.append(
                    SizeProxy(
                        one.task,
                        slowest.task,
                        one.seconds,
                        slowest.seconds,
                        compared.tau.value,
                        compared.decided,
                        len(compared.reversals),
                    )
                )
    return found


def _steps(table: TidyTable, ranking: TaskRanking) -> StepProxy | None:
    import numpy as np

    means = {name: mean for name, mean in ranking.means.items() if math.isfinite(mean)}
    names = sorted(means, key=means.__getitem__)[:_MOST]
    if len(names) < MIN_CONFIGS:
        return None
    order = decided_differences(ranking, names)
    first, second = np.nonzero(order)
    kind, series = _series(table, ranking.task, names)
    if not len(first) or not series:
        return None
    final = np.array([ranking.means[name] for name in names])
    signs = order[first, second]
    steps = []
    for step, gaps in sorted(series.items()):
        there = np.array([gaps[name] for name in names])
        wrong = ((there[second] - there[first]) * signs <= 0).sum()
        steps.append(ProxyStep(step, float(kendall(there, final)), int(wrong)))
    return StepProxy(ranking.task, kind, len(first), steps[-1].step, steps)


def _series(table: TidyTable, task: str, names: Sequence[str]) -> tuple[str, dict[int, dict[str, float]]]:
    """Step -> configuration -> mean gap to the baseline of the same seed, at steps that all of them have."""
    wanted = set(names)
    rows = [row for row in table.rows if row["task"] == task and row["config"] in wanted]
    pairs = [(row["config"], table.records.get(row["uid"]), table.paired_baseline(row["uid"])) for row in rows]
    known = [(config, own, base) for config, own, base in pairs if own and base and own.data == base.data]
    for kind in ("held-out metric", "training loss"):
        gaps: dict[int, dict[str, list[float]]] = {}
        for config, own, base in known:
            mine, theirs = _points(own, kind), _points(base, kind)
            for step in mine.keys() & theirs.keys() - {0}:
                gaps.setdefault(step, {}).setdefault(config, []).append(mine[step] - theirs[step])
        means = {
            step: {config: estimate(values).mean for config, values in by.items()}
            for step, by in gaps.items()
            if len(by) == len(names)
        }
        if len(means) > 1:
            return kind, means
    return "", {}


def _points(record: Record, kind: str) -> Mapping[int, float]:
    raw = record.evals if kind == "held-out metric" else record.curve
    points = [(int(s), float(v)) for s, v in raw if s is not None and v is not None and math.isfinite(v)]
    if kind == "held-out metric":
        return dict(points)
    wide = max(1, len(points) // _SMOOTH)
    values = [value for _, value in points]
    return {
        step: math.fsum(values[max(0, i + 1 - wide) : i + 1]) / (i + 1 - max(0, i + 1 - wide))
        for i, (step, _) in enumerate(points)
    }


__all__ = ["TOLERATED", "ProxyStep", "SizeProxy", "StepProxy", "size_proxies", "step_proxies"]
