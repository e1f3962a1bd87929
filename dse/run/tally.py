"""Tally of a running sweep: how many trials have finished, the time left, and the best configuration so far."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dse.number_format import SPACE, percent
from dse.plan.timing import TimingKey, TimingKeys, TrialTimes
from dse.results.gaps import gap
from dse.results.record import Record
from dse.stats import Estimate, estimate
from dse.text import noun

if TYPE_CHECKING:
    from dse.sweep import Cell


_FIRST_SHARE = 0.05
"""The share of the first packs that must be done before the time left is estimated from it."""


class _Metrics(NamedTuple):
    """What is kept of a record: a sweep may have very many."""

    metric: float | None
    metric_initial: float | None


class BestConfig(NamedTuple):
    """The configuration of a task that loses least: ``lost``, the improvement lost over all of its seeds.

    ``left_out``: how many of the task's ``configs`` have no number on every seed.
    """

    config: str
    lost: Estimate
    left_out: int = 0
    configs: int = 1

    @property
    def text(self) -> str:
        """The improvement lost in percent, with its 95 % interval where there are several seeds."""
        return percent(self.lost.mean, self.lost.half).replace(SPACE, " ")


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

        Trials of a kind of which none has completed (``untimed``) are left out. Before any that waits is of a timed
        kind, the pace so far tells: what has finished, and the progress of running packs; None before there is some.
        """
        known, like = self._timed_waiting()
        if like or (self._times.trials and not self._waiting.total()):
            usual = known / like if like else 0.0
            return max(0.0, known - usual * min(self.progress, like)) / self._workers
        done = self.ran + self.progress
        if self._since is None or done <= _FIRST_SHARE * self.running:
            return None
        return (time.monotonic() - self._since) * (self.left - self.progress) / done

    @property
    def untimed(self) -> int:
        """Waiting trials of a task, or at settings, of which no trial has been completed on this kind of device."""
        return self._waiting.total() - self._timed_waiting()[1]

    @property
    def basis(self) -> str:
        """What ``seconds_left`` is based on, in words."""
        trials, unlike = self._times.trials, self.untimed
        if not trials:
            return "the first packs' pace"
        said = f"from {trials} completed {noun(trials, 'trial')} on a {self._times.device or 'device'}"
        return said + (f"; without {unlike} like none of them, which dse plan times" if unlike else "")

    def _timed_waiting(self) -> tuple[float, int]:
        """Seconds of the waiting trials of kinds of which some have completed, and how many they are."""
        seconds, like = 0.0, 0
        for key, count in self._waiting.items():
            if count and (own := self._times.of(key)):
                seconds, like = seconds + own.seconds * count, like + count
        return seconds, like

    def learn(self, history: Iterable[Record]) -> None:
        """Times of completed trials of other sweeps, by which ``dse plan`` estimates too."""
        for record in history:
            if record.uid not in self._keys:
                self._times.add(record)

    def best(self) -> dict[str, BestConfig]:
        """Task -> the configuration that loses least so far, among those of which every seed has a number."""
        best: dict[str, BestConfig] = {}
        all_of, unknown = Counter[str](), Counter[str]()
        for (task, config), uids in self._groups.items():
            lost = self._lost(uids)
            all_of[task] += 1
            unknown[task] += lost is None
            if lost and (task not in best or lost.mean < best[task].lost.mean):
                best[task] = BestConfig(config, lost)
        return {task: one._replace(left_out=unknown[task], configs=all_of[task]) for task, one in best.items()}

    def _observe(self, record: Record) -> None:
        self._marks[record.uid] = _Metrics(record.metric, record.metric_initial)
        self._times.add(record, self._keys.get(record.uid))

    def _lost(self, uids: Sequence[tuple[str, str]]) -> Estimate | None:
        """Over all seeds of a configuration but those whose baseline ended without a number, which tell nothing.

        None where a seed or its baseline has not run, or a seed diverged or failed.
        """
        pairs = [(self._marks.get(uid), self._marks.get(baseline)) for uid, baseline in uids]
        if any(own is None or own.metric is None or base is None for own, base in pairs):
            return None
        gaps = (gap(own, base) for own, base in pairs)
        known = [one.lost for one in gaps if one is not None and one.lost is not None]
        return estimate(known) if known else None
