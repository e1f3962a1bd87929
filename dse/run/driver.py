"""The driver of a sweep: feeds an executor, stores its results, and shares the work with other drivers.

The constructor stores its arguments. ``run`` opens what a run needs (claims, manifest, MLflow), lets the executor work
until the queue is exhausted or a signal comes, and closes it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from signal import SIGHUP, SIGINT, Signals
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.plan.timing import device_kind
from dse.results.claims import Claims
from dse.results.manifest import Manifest
from dse.results.record import Record
from dse.results.store import Store
from dse.run.backlog import Backlog
from dse.run.executors import Executor, Pruner
from dse.run.interrupt import PACK, Interrupt, Stopped, graceful, leave_terminal
from dse.run.notices import cautions
from dse.run.progress import Progress, make_progress
from dse.run.queue.growing_queue import GrowingQueue
from dse.run.queue.other_drivers import OtherDrivers
from dse.run.queue.pack_queue import PackQueue, pack_order
from dse.run.queue.shared_queue import SharedQueue
from dse.run.summary import DriverResult
from dse.run.tally import Tally
from dse.run.tracking.driver_tracking import DriverTracking
from dse.train.checkpoint import clean
from dse.train.halving import configuration
from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.sweep import Cell
    from dse.train.halving import RungTarget

_FLUSH = 60.0  # seconds to wait for MLflow at the end of a sweep
_FLUSH_ABORTED = 5.0  # after an error or a second Ctrl-C

Result = tuple["Cell", Record]


class Driver:
    """Runs the backlog of a sweep with an executor, and stores the results. For one ``run``."""

    _claims: Claims
    _manifest: Manifest
    _queue: SharedQueue
    _tally: Tally
    _display: Progress

    def __init__(self, store: Store, executor: Executor, options: RunOptions, backlog: Backlog) -> None:
        self._store, self._executor, self._options, self._backlog = store, executor, options, backlog
        self._search, self._rungs = backlog.search, backlog.rungs
        self._cells = {cell.uid: cell for cell in backlog.pending}
        self._tracking = DriverTracking(store, options.track)
        self._opened = ExitStack()
        self._attempts: dict[str, int] = {}
        self._final: set[str] = set()  # uids with a final result, which need no checkpoint any more
        self._at_rung: dict[str, tuple[Cell, Record, bool]] = {}  # results of trials that may train further
        self._said: set[str] = set()
        self._notes: list[str] = []

    def run(self) -> DriverResult:
        """Runs what is pending. Raises ``Stopped`` on a second signal."""
        self.open()
        patience, warning = _FLUSH_ABORTED, ""
        with graceful() as stop, self._opened:
            try:
                self._execute(stop)
                patience = _FLUSH
            except KeyboardInterrupt:  # Tune makes one of its own
                raise Stopped(stop.number or SIGINT) from None
            finally:
                warning = self.close(_FLUSH_ABORTED if stop.urgent else patience)
        if not warning and not stop.is_set():
            self._note(self._tracking.catch_up())
        unfinished = self._tally.left > 0 or bool(self._search and self._search.active)
        return DriverResult(
            self._tally.ran, self._tally.elsewhere, stop.number if unfinished else 0, tuple(self._notes)
        )

    def open(self) -> None:
        """Reads the results so far, writes the manifest, and opens claims, queue, display and MLflow."""
        cells, pending, store = self._backlog.cells, self._backlog.pending, self._store
        self._note(str(store.damage))
        records = store.records({cell.uid for cell in cells}, brief=not self._options.track)
        known = [record for record in records if record.uid not in self._cells]
        self._attempts = self._next_attempts({record.uid for record in records} & self._cells.keys())
        self._final = {record.uid for record in known}
        clean(store.folder, self._final)
        self._manifest = Manifest.of(self._backlog.sweep, store.folder)
        self._manifest.write(store.folder)
        self._note(self._search.warning if self._search else "")
        self._tally = Tally(cells, known, self._executor.workers, device_kind(self._options.device))
        if self._tally.untimed:
            self._tally.learn(store.records(brief=True))
        with ExitStack() as opened:
            self._claims = Claims(store.folder)
            opened.callback(self._claims.close)
            watcher, old = self._backlog.watcher, self._backlog.replaced
            others = OtherDrivers(self._claims, watcher, old, lambda: store.own)
            self._queue = SharedQueue(self._pack_queue(), others, pending, self._on_results_of_others, self._is_needed)
            opened.callback(self._tracking.release)
            self._tracking.open(self._manifest, known)
            self._display = make_progress(self._tally, self._options.progress)
            self._display.say(
                f"{self._backlog.sweep.name}: {len(pending)} {self._backlog.what} to run, {len(known)} done before"
            )
            for note in self._backlog.notes:
                self._display.say(note)
            self._opened = opened.pop_all()

    def _next_attempts(self, uids: Collection[str]) -> dict[str, int]:
        """uid -> the number of the attempt to come; a result of any kind of device counts as one."""
        found: dict[str, int] = {}
        for record in self._store.on_each_device(uids, brief=True) if uids else ():
            found[record.uid] = max(record.attempt + (record.uid in self._backlog.retried), found.get(record.uid, 0))
        return found

    def close(self, patience: float) -> str:
        """Ends display, shard and MLflow, for which it waits ``patience`` seconds; returns a warning about MLflow."""
        self._display.close()
        self._close_store()
        warning = self._tracking.close(patience)
        self._note(warning)
        return warning

    def _pack_queue(self) -> PackQueue:
        """The pending cells; with rungs none, as those decide which are submitted."""
        key = _configuration if isinstance(self._executor, Pruner) else None
        order = pack_order(self._options.device)
        return PackQueue([] if self._rungs else self._backlog.pending, self._executor.max_width, key=key, order=order)

    def _close_store(self) -> None:
        """Ends the shard; where the folder was deleted during the run, what describes the results is written again."""
        try:
            self._store.close()
            if self._store.notes:
                self._manifest.write(self._store.folder)
        except UserError as error:
            self._note(str(error))
        self._notes += self._store.notes
        if self._claims.restored:
            self._note(f"claims in {self._store.folder} were deleted: other drivers may have run trials again")

    def _execute(self, stop: Interrupt) -> None:
        def on_progress(running: int, progress: float) -> None:
            self._tally.update(running, progress)
            self._claims.restore()
            if stop.is_set():
                self._say_stopping(stop)
            elif not running and self._queue.elsewhere:
                self._say_once(f"waiting for {_drivers(self._queue.elsewhere)}")
            self._display.refresh()

        queue = GrowingQueue(self._queue, self._refill) if self._search or self._rungs else self._queue
        self._refill()
        self._executor.run(queue, self._on_pack, on_progress, stop)
        if stop.is_set():
            self._queue.poll()

    def _refill(self) -> None:
        """Submits all that may run by the results so far: what may train past a rung, and what the search asks for."""
        if self._rungs and (targets := self._rungs.new_targets()):
            self._queue.submit((self._cells[uid] for uid in targets), targets)
        while self._search and (new := self._search.ask()) is not None:
            known = self._store.records({cell.uid for cell in new}, brief=not self._options.track)
            done = {record.uid for record in known}
            self._queue.submit(cell for cell in new if cell.uid not in done)
            self._search.tell(known)
            self._tally.add_cells(new, known)
            self._manifest = self._manifest.with_cells_of(self._search.sweep)
            self._manifest.write(self._store.folder)
            self._tracking.grow(self._manifest, known)

    def _on_pack(self, pack: Sequence[Result]) -> None:
        """Stores the results of a pack of this driver, then shows and tracks them."""
        pack = [(cell, replace(r, attempt=self._attempts.get(cell.uid, 0))) for cell, r in pack]
        said = len(self._store.notes)
        self._store.append(*(record for _, record in pack))  # before anything else learns of it
        self._notes += [note for note in cautions(record for _, record in pack) if note not in self._notes]
        for note in self._store.notes[said:]:
            self._display.say(note)
        self._tally.update(0, 0.0)
        self._observe(pack, own=True)

    def _on_results_of_others(self, found: Sequence[Result]) -> None:
        self._observe(found, own=False)

    def _observe(self, found: Sequence[Result], own: bool) -> None:
        if self._search:
            self._search.tell(record for _, record in found)
        final = self._final_results([(cell, record, own) for cell, record in found])
        self._final.update(cell.uid for cell, _, _ in final)
        clean(self._store.folder, self._final)
        for cell, record, is_own in final:
            self._tally.add(record, is_own)
            self._tracking.put(record)
            self._display.on_result(cell, record)

    def _final_results(self, found: Sequence[tuple[Cell, Record, bool]]) -> Sequence[tuple[Cell, Record, bool]]:
        """The results that are final now: of these, and of trials that waited at a rung and have lost there."""
        if self._rungs is None:
            return found
        passed = self._rungs.tell(record for _, record, _ in found)
        self._at_rung |= {cell.uid: (cell, record, own) for cell, record, own in found}
        uids = list(self._at_rung) if passed else [cell.uid for cell, _, _ in found]
        return [self._at_rung.pop(uid) for uid in uids if not self._rungs.is_unfinished(uid)]

    def _is_needed(self, uid: str, target: RungTarget | None) -> bool:
        """Whether a trial is still to be trained to a target: another driver may have trained it that far."""
        if self._rungs is None or target is None:
            return True
        now = self._rungs.target(uid)
        return now is not None and now.rung == target.rung

    def _say_stopping(self, stop: Interrupt) -> None:
        if stop.number == SIGHUP:
            leave_terminal()
        if stop.urgent:
            name = Signals(stop.number).name
            self._say_once(f"{name}: packs that end in {PACK:.0f} s finish, others leave a checkpoint")
        else:
            self._say_once("stopping: the running packs finish, or leave a checkpoint; Ctrl-C again stops now")

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._display.say(line)

    def _note(self, line: str) -> None:
        """A warning for the user, shown at the end; nothing for ''."""
        self._notes += [line] if line else []


def _configuration(cell: Cell) -> str:
    return configuration(cell.trial)


def _drivers(elsewhere: Mapping[str, str]) -> str:
    """The drivers of the cells that are waited for, and how many each runs."""
    return ", ".join(f"{list(elsewhere.values()).count(who)} trials of {who}" for who in sorted({*elsewhere.values()}))


__all__ = ["Driver"]
