"""Where a running sweep stands: counts, time left, and the best configuration so far."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from dse.plan.timing import Keys, Pace, TimingKey
from dse.results.gaps import gap
from dse.results.record import Record
from dse.text import noun

if TYPE_CHECKING:
    from dse.sweep import Cell


_TOLD = 0.05
"""The share of the first packs after which their pace tells something."""


class _Mark(NamedTuple):
    """What is kept of a record: a sweep may have very many."""

    metric: float | None
    metric_initial: float | None


class Tally:
    """Fed with every record of a sweep, those of earlier runs first. ``device``: kind of the one that it runs on."""

    def __init__(self, cells: Sequence[Cell], known: Iterable[Record], workers: int, device: str | None = None) -> None:
        self._groups: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        self._marks: dict[str, _Mark] = {}
        self._workers = workers
        self._pace, self._texts = Pace(device), Keys()
        self._keys: dict[str, TimingKey] = {}  # uid -> what decides the trial's time
        self._shared: dict[TimingKey, TimingKey] = {}
        self._waiting: Counter[TimingKey] = Counter()
        self._open: set[str] = set()  # the trials without a result
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
            key = self._texts.of(cell.trial.spec)
            self._keys[cell.uid] = self._shared.setdefault(key, key)
        for record in known:
            self._note(record)
        new = {cell.uid for cell in cells if cell.uid not in self._marks and cell.uid not in self._open}
        self._open |= new
        self._waiting += Counter(self._keys[uid] for uid in new)
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
        if record.uid not in self._open:
            return
        self._open.discard(record.uid)
        self._waiting[self._keys[record.uid]] -= 1
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
        """From the times of like trials that were completed (``Pace``), and what the running ones have done.

        Trials like which none has been completed yet count like the mean of the others. Before any has been, the first
        packs' pace tells; None before there is one.
        """
        if self._pace.trials:
            known, like = self._known()
            usual = known / like if like else self._pace.mean
            left = known + usual * (self._waiting.total() - like)
            return max(0.0, left - usual * self.under_way) / self._workers
        if self._since is None or self.under_way <= _TOLD * self.busy:
            return None
        return (time.monotonic() - self._since) * (self.total - self.under_way) / self.under_way

    @property
    def basis(self) -> str:
        """What ``seconds_left`` is based on, in words."""
        trials, unlike = self._pace.trials, self._waiting.total() - self._known()[1]
        if not trials:
            return "the first packs' pace"
        said = f"from {trials} completed {noun(trials, 'trial')} on a {self._pace.device or 'device'}"
        return said + (f"; {unlike} like none of them count as their mean" if unlike else "")

    def _known(self) -> tuple[float, int]:
        """Seconds of the waiting trials like which some were completed, and how many they are."""
        seconds, like = 0.0, 0
        for key, count in self._waiting.items():
            if count and (own := self._pace.of(key)):
                seconds, like = seconds + own.seconds * count, like + count
        return seconds, like

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
        self._pace.note(record, self._keys.get(record.uid))

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
