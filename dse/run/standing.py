"""Where a running sweep stands: counts, time left, and the best configuration so far."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from dse.run.gaps import gap
from dse.run.record import Record

if TYPE_CHECKING:
    from dse.sweep import Cell


_TOLD = 0.05
"""The share of the first packs after which their pace tells something."""


class _Mark(NamedTuple):
    """What is kept of a record: a sweep may have very many."""

    metric: float | None
    metric_initial: float | None


class Standing:
    """Fed with every record of a sweep, those of earlier runs first."""

    def __init__(self, cells: Sequence[Cell], known: Iterable[Record], workers: int) -> None:
        self._groups: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        self._marks: dict[str, _Mark] = {}
        self._workers = workers
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._waiting: Counter[str] = Counter()
        self._open: dict[str, str] = {}  # uid -> task, of the trials without a result
        self.total = 0
        self.grow(cells, known)
        self.counts: Counter[str] = Counter()  # by status, of this run
        self.others = 0
        self.busy, self.under_way = 0, 0.0
        self._since: float | None = None

    def grow(self, cells: Sequence[Cell], known: Iterable[Record]) -> None:
        """Further cells, and the results that there are of them."""
        for cell in cells:
            if not cell.is_baseline:
                self._groups[str(cell.labels["task"]), cell.config].append((cell.uid, cell.baseline_uid))
        for record in known:
            self._note(record)
        new = {c.uid: c.trial.task.name for c in cells if c.uid not in self._marks and c.uid not in self._open}
        self._open |= new
        self._waiting += Counter(new.values())
        self.total += len(new)

    @property
    def done(self) -> int:
        """Trials that this driver has finished in this run."""
        return self.counts.total()

    @property
    def finished(self) -> int:
        """Trials that any driver has finished since this run began."""
        return self.done + self.others

    @property
    def left(self) -> int:
        """Trials without a result."""
        return self.total - self.finished

    def add(self, record: Record, mine: bool = True) -> None:
        """A trial is finished, by this driver or another one; a second result of it counts no second time."""
        self._note(record)
        if (task := self._open.pop(record.uid, None)) is None:
            return
        self._waiting[task] -= 1
        if mine:
            self.counts[record.status] += 1
        else:
            self.others += 1

    def move(self, busy: int, under_way: float) -> None:
        """``busy`` trials are running, and so much of them is done, in trials' worth."""
        self.busy, self.under_way = busy, under_way
        if busy and self._since is None:
            self._since = time.monotonic()

    def seconds_left(self) -> float | None:
        """From the median time of each task's trials, and what the running ones have done.

        Tasks of which none has finished yet count like the average of the others. Before any has finished, the first
        packs' pace tells; None before there is one.
        """
        known = {task: median(seconds) for task, seconds in self._seconds.items() if seconds}
        if known:
            usual = fmean(known.values())
            left = sum(known.get(task, usual) * count for task, count in self._waiting.items())
            return max(0.0, left - usual * self.under_way) / self._workers
        if self._since is None or self.under_way <= _TOLD * self.busy:
            return None
        return (time.monotonic() - self._since) * (self.total - self.under_way) / self.under_way

    def best(self) -> dict[str, tuple[str, float]]:
        """Task -> (config, mean gap to the baseline in percent) with the smallest gap so far."""
        best: dict[str, tuple[str, float]] = {}
        for (task, config), uids in self._groups.items():
            mean = self._mean_gap(uids)
            if mean is not None and (task not in best or mean < best[task][1]):
                best[task] = config, mean
        return best

    def _note(self, record: Record) -> None:
        self._marks[record.uid] = _Mark(record.metric, record.metric_initial)
        self._seconds[record.task].append(record.seconds)

    def _mean_gap(self, uids: Sequence[tuple[str, str]]) -> float | None:
        """Over the seeds that have run; None when there is none, or when any of them diverged or failed."""
        found = []
        for uid, baseline_uid in uids:
            mark = self._marks.get(uid)
            if mark is not None and mark.metric is None:
                return None
            value = gap(mark, self._marks.get(baseline_uid))
            if value is not None and value.percent is not None:
                found.append(value.percent)
        return fmean(found) if found else None


def duration(seconds: float) -> str:
    """For people: 8s, 3m20s, 2h05m.

    >>> duration(200)
    '3m20s'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
