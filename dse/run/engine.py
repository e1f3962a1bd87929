"""Running a sweep: whatever has no result yet is run, stored, shown and projected. Running it again is the resume.

Several drivers may run sweeps into one results folder at the same time, on one machine or on many that share a file
system with locks: they share the work, and no trial is run twice.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.run.claims import Claims
from dse.run.executors import DEFAULT, Executor, make_executor
from dse.run.interrupt import graceful
from dse.run.lock import InUse
from dse.run.manifest import Manifest, read_manifests
from dse.run.news import News
from dse.run.packing import Queue
from dse.run.pick import called, pick
from dse.run.progress import Progress, make_progress
from dse.run.record import FAILED, Record
from dse.run.sharing import SharedQueue
from dse.run.standing import Standing
from dse.run.store import Store
from dse.run.summary import Summary, summarize
from dse.run.tracking import BEHIND

if TYPE_CHECKING:
    from dse.run.live import Tracker
    from dse.sweep import Cell, Sweep

RETRY = {"none": frozenset[str](), "failed": frozenset({FAILED}), "all": None}
"""Which results are run again, by name: the statuses, or (None) whatever it is."""
_FLUSH = 60.0  # seconds to wait for MLflow at the end of a sweep
_FLUSH_ABORTED = 5.0  # after an error or a second Ctrl-C


def run_sweep(
    sweep: Sweep,
    store: Store,
    executor: str = DEFAULT,
    workers: int | None = None,
    data_dir: Path | None = None,
    device: str = "cpu",
    *,
    only: Collection[str] = (),
    retry: str = "none",
    timeout: float | None = None,
    progress: bool = True,
    track: bool = True,
    compact: bool = True,
) -> Summary:
    """Runs the cells that have no result yet.

    - ``executor``: a name of ``executors.EXECUTORS``; ``workers``: packs at a time, by default one per processor (GPU);
    - ``only``: the trials that count, as ``pick`` understands them; all without any;
    - ``retry``: which of those with a result are run again, a name of ``RETRY``; diverged is a result like any other;
    - ``timeout``: seconds that a trial may train.

    With nothing to do it imports nothing heavy and writes no result. What another driver is running is waited for.
    Raises UserError for bad options, missing data, or a folder that cannot be written; KeyboardInterrupt on the second
    Ctrl-C. Whatever was finished by then is stored.
    """
    clock = time.monotonic()
    runner = make_executor(executor, workers, data_dir, device, timeout)
    cells = _only(sweep.cells, only)
    news, done = News(store.shards, store.parquet), store.done()  # in this order: nothing falls between
    pending = _pending(cells, done, retry)
    if not pending:
        _remember(sweep, store)
        return summarize(cells, done, clock)
    run = _Run(sweep, store, cells, pending, runner, news)
    stopped = run.go(progress, track)
    notes = [*run.notes, *(_compact(store) if compact else [])]
    return summarize(cells, store.done(), clock, run.standing.done, run.standing.others, stopped, notes)


class _Run:
    """One driver at work: what it shares with the others, shows and projects."""

    def __init__(
        self, sweep: Sweep, store: Store, cells: Sequence[Cell], pending: Sequence[Cell], runner: Executor, news: News
    ) -> None:
        self._sweep, self._store, self._pending, self._runner = sweep, store, pending, runner
        self.notes = _damage(store)
        again = {cell.uid for cell in pending}
        found = store.records({cell.uid for cell in cells})
        self._known = [record for record in found if record.uid not in again]
        before = {record.uid: record.started for record in found if record.uid in again}
        self._manifest = Manifest.of(sweep)
        self._manifest.write(store.folder)
        self._claims = Claims(store.folder)
        self.standing = Standing(cells, self._known, runner.workers)
        queue = Queue(pending, runner.limit)
        self._shared = SharedQueue(queue, self._claims, news, pending, before, lambda: store.own, self._hear)
        self._tracker: Tracker | None = None
        self._display: Progress = make_progress(self.standing, False)

    def go(self, progress: bool, track: bool) -> bool:
        """Runs what is pending; whether it was stopped before the last one."""
        self._display = make_progress(self.standing, progress)
        self._display.say(f"{self._sweep.name}: {len(self._pending)} trials to run, {len(self._known)} done before")
        patience = _FLUSH_ABORTED
        with ExitStack() as stack:
            stack.callback(self._claims.close)
            projects = track and self._may_project(stack)
            if projects:
                from dse.run.live import Tracker

                self._tracker = Tracker(self._store.folder, self._manifest, self._known)
            self._known = []  # there may be very many, with all their curves
            try:
                stopped = self._run()
                patience = _FLUSH
            finally:
                self._display.close()
                self._store.close()
                warning = self._tracker.close(patience) if self._tracker else ""
                self.notes += [warning] if warning else []
                if track and not projects:
                    (self._store.folder / BEHIND).touch()
        return stopped

    def _run(self) -> bool:
        told = set[str]()

        def say_once(line: str) -> None:
            if line not in told:
                told.add(line)
                self._display.say(line)

        def on_progress(busy: int, under_way: float) -> None:
            self.standing.move(busy, under_way)
            if stop.is_set():
                say_once("stopping: the running packs finish first; Ctrl-C again stops now")
            elif not busy and self._shared.elsewhere:
                say_once(f"waiting for {_who(self._shared.elsewhere)}")
            self._display.beat()

        with graceful() as stop:
            self._runner.run(self._shared, self._finish, on_progress, stop)
        return stop.is_set() and self.standing.left > 0

    def _finish(self, pack: Sequence[tuple[Cell, Record]]) -> None:
        """What a pack of this driver left behind."""
        self._store.append(*(record for _, record in pack))  # before anybody else hears of it
        self.standing.move(0, 0.0)
        self._tell(pack, mine=True)

    def _hear(self, found: Sequence[tuple[Cell, Record]]) -> None:
        """What other drivers have done meanwhile."""
        self._tell(found, mine=False)

    def _tell(self, found: Sequence[tuple[Cell, Record]], mine: bool) -> None:
        for cell, record in found:
            self.standing.add(record, mine)
            if self._tracker:
                self._tracker.put(record)
            self._display.finished(cell, record)

    def _may_project(self, stack: ExitStack) -> bool:
        """One driver at a time writes to MLflow; what the others have run, the next `dse dashboard` adds."""
        try:
            stack.enter_context(self._store.lock())
        except InUse:
            return False
        return True


def _only(cells: Sequence[Cell], words: Collection[str]) -> Sequence[Cell]:
    if not words:
        return cells
    chosen = pick({cell.uid: called(cell.config, cell.trial.seed) for cell in cells}, words)
    return [cell for cell in cells if cell.uid in chosen]


def _pending(cells: Sequence[Cell], done: Mapping[str, str], retry: str) -> list[Cell]:
    if retry not in RETRY:
        raise UserError(f"unknown retry {retry!r}; valid: {', '.join(RETRY)}")
    again = RETRY[retry]
    return [cell for cell in cells if cell.uid not in done or again is None or done[cell.uid] in again]


def _who(elsewhere: Mapping[str, str]) -> str:
    """Who runs the cells that are waited for, and how many."""
    return ", ".join(f"{list(elsewhere.values()).count(who)} trials of {who}" for who in sorted({*elsewhere.values()}))


def _damage(store: Store) -> list[str]:
    if not str(store.damage):
        return []
    return [f"skipped {store.damage} lines in {store.shards}: those trials have no result and run again"]


def _remember(sweep: Sweep, store: Store) -> None:
    """A sweep whose trials other sweeps have run gets its MLflow experiment when the dashboard is opened next."""
    manifest = Manifest.of(sweep)
    if manifest not in read_manifests(store.folder, sweep.name):
        with suppress(UserError, OSError):  # it is fine to look at results that one may not write
            manifest.write(store.folder)
            (store.folder / BEHIND).touch()


def _compact(store: Store) -> list[str]:
    """Compaction is housekeeping: what it cannot do today stays in the shards, where every reader finds it."""
    try:
        store.compact()
    except InUse:  # another driver does it
        return []
    except (OSError, UserError) as error:
        return [f"the results could not be compacted, and stay as shards: {error}"]
    return []


__all__ = ["RETRY", "Summary", "run_sweep"]
