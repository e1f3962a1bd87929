"""Tally of a running sweep: how many trials have finished, the time left, and the best configuration so far."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from dse.plan.timing import TimingKey, TimingKeys, TrialTimes
from dse.results.gaps import gap
from dse.results.record import Record
from dse.text import noun

if TYPE_CHECKING:
    from dse.sweep import Cell


_FIRST_SHARE = 0.05
"""The share of the first packs that must be done before the time left is estimated from it."""


class _Metrics(NamedTuple):
    """What is kept of a record: a sweep may have very many."""

    metric: float | None
    metric_initial: float | None


class Tally:
    """Counts the results of ``cells``; ``known``: results of earlier runs. ``device``: kind that the sweep runs on.

    ``total``: trials without a result when the run began; ``counts``: by status, those that this driver has run;
    ``elsewhere``: those that other drivers have run meanwhile; ``running``: trials that run now, of which ``progress``
    is done, in trials' worth.
    """

    def __init__(self, cells: Sequence[Cell], known: Iterable[Record], workers: int, device: str | None = None) -> None:
        self._groups: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        self._marks: dict[str, _Metrics] = {}
        self._workers = workers
        self._times, self._timing_keys = TrialTimes(device), TimingKeys()
        self._keys: dict[str, TimingKey] = {}  # uid -> what decides the trial's time
        self._shared: dict[TimingKey, TimingKey] = {}
        self._waiting: Counter[TimingKey] = Counter()
        self._unfinished: set[str] = set()  # the trials without a result
        self.total = 0
        self.add_cells(cells, known)
        self.counts: Counter[str] = Counter()
        self.elsewhere = 0
        self.running, self.progress = 0, 0.0
        self._since: float | None = None

    def add_cells(self, cells: Sequence[Cell], known: Iterable[Record]) -> None:
        """Further cells, and the results that there are of them."""
        for cell in cells:
            if not cell.is_baseline:
                self._groups[str(cell.labels["task"]), cell.config].append((cell.uid, cell.baseline_uid))
            key = self._timing_keys.of(cell.trial.spec)
            self._keys[cell.uid] = self._shared.setdefault(key, key)
        for record in known:
            self._observe(record)
        new = {cell.uid for cell in cells if cell.uid not in self._marks and cell.uid not in self._unfinished}
        self._unfinished |= new
        self._waiting += Counter(self._keys[uid] for uid in new)
        self.total += len(new)

    @property
    def ran(self) -> int:
        """Trials that this driver has finished in this run."""
        return self.counts.total()

    @property
    def finished(self) -> int:
        """Trials that any driver has finished since this run began."""
        return self.ran + self.elsewhere

    @property
    def left(self) -> int:
        """Trials without a result."""
        return self.total - self.finished

    def add(self, record: Record, own: bool = True) -> None:
        """A trial has finished, in this driver or (``own`` false) another; a second result of it is not counted."""
        self._observe(record)
        if record.uid not in self._unfinished:
            return
        self._unfinished.discard(record.uid)
        self._waiting[self._keys[record.uid]] -= 1
        if own:
            self.counts[record.status] += 1
        else:
            self.elsewhere += 1

    def update(self, running: int, progress: float) -> None:
        """How many trials run now, and how much of them is done, in trials' worth."""
        self.running, self.progress = running, progress
        if running and self._since is None:
            self._since = time.monotonic()

    def seconds_left(self) -> float | None:
        """Estimated from the times of completed trials of the same kind, and the progress of running ones.

        Trials of a kind of which none has completed count like the mean of the others. Before any has completed, the
        progress of the first packs tells; None before there is some.
        """
        if self._times.trials:
            known, like = self._timed_waiting()
            usual = known / like if like else self._times.mean
            left = known + usual * (self._waiting.total() - like)
            return max(0.0, left - usual * self.progress) / self._workers
        if self._since is None or self.progress <= _FIRST_SHARE * self.running:
            return None
        return (time.monotonic() - self._since) * (self.total - self.progress) / self.progress

    @property
    def basis(self) -> str:
        """What ``seconds_left`` is based on, in words."""
        trials, unlike = self._times.trials, self._waiting.total() - self._timed_waiting()[1]
        if not trials:
            return "the first packs' pace"
        said = f"from {trials} completed {noun(trials, 'trial')} on a {self._times.device or 'device'}"
        return said + (f"; {unlike} like none of them count as their mean" if unlike else "")

    def _timed_waiting(self) -> tuple[float, int]:
        """Seconds of the waiting trials of kinds of which some have completed, and how many they are."""
        seconds, like = 0.0, 0
        for key, count in self._waiting.items():
            if count and (own := self._times.of(key)):
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

    def _observe(self, record: Record) -> None:
        self._marks[record.uid] = _Metrics(record.metric, record.metric_initial)
        self._times.add(record, self._keys.get(record.uid))

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
