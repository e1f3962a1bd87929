"""Shares of seeds that learn a task which is learned at once or never (``Task.learned``), and when they do."""

from __future__ import annotations

from dataclasses import dataclass

from dse.report.analysis.tidy import TidyTable, label_text
from dse.results.record import DIVERGED, OK, Record
from dse.stats import CONFIDENCE


@dataclass(frozen=True)
class LearnedShare:
    """``learned`` of ``seeds`` trials of a configuration; ``low``, ``high``: Wilson's 95 % interval of the share.

    ``steps``: for each that has learned, the first step with a held-out metric as good as the task asks, in order.
    """

    task: str
    config: str
    learned: int
    seeds: int
    low: float
    high: float
    steps: tuple[int, ...]


def learned_at(record: Record, threshold: float) -> int | None:
    """The first step at which a trial's held-out metric was at most ``threshold``; None where it did not end so."""
    if record.status != OK or record.metric is None or record.metric > threshold:
        return None
    return int(
        next(step for step, value in record.evals if step is not None and value is not None and value <= threshold)
    )


def learned_shares(table: TidyTable) -> dict[str, list[LearnedShare]]:
    """By task, for those that are learned at once or never: every configuration that has run, most learned first.

    A trial that has diverged has not learned; one that has failed does not count.
    """
    found: dict[tuple[str, str], list[int | None]] = {}
    for uid, record in table.records.items():
        cell = table.cells[uid]
        threshold = cell.trial.task.learned
        if threshold is not None and record.status in (OK, DIVERGED):
            key = label_text(cell.labels["task"]), cell.config
            found.setdefault(key, []).append(learned_at(record, threshold))
    shares: dict[str, list[LearnedShare]] = {}
    for (task, config), steps in found.items():
        known = sorted(step for step in steps if step is not None)
        shares.setdefault(task, []).append(
            LearnedShare(task, config, len(known), len(steps), *wilson(len(known), len(steps)), tuple(known))
        )
    return {task: sorted(own, key=lambda one: (-one.learned / one.seeds, one.steps)) for task, own in shares.items()}


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's interval of a share (E. B. Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


__all__ = ["LearnedShare", "learned_at", "learned_shares", "wilson"]
