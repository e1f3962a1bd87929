"""One driver at work on a sweep: what it runs, stores, shares with other drivers, shows and projects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from signal import SIGHUP, SIGINT, Signals
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.results.claims import Claims
from dse.results.lock import InUse
from dse.results.manifest import Manifest
from dse.results.record import Record
from dse.results.store import Store
from dse.results.watch import ResultWatcher
from dse.run.executors import Executor, Pruner
from dse.run.interrupt import PACK, Interrupt, Stopped, graceful, leave_terminal
from dse.run.notices import cautions
from dse.run.progress import Progress, make_progress
from dse.run.queue.growing_queue import GrowingQueue
from dse.run.queue.pack_queue import PackQueue
from dse.run.queue.shared_queue import SharedQueue, stamp
from dse.run.search import SearchLoop
from dse.run.tally import Tally
from dse.run.tracking.mlflow_runs import catch_up, mark
from dse.shell import command
from dse.train.checkpoint import clean
from dse.train.halving import configuration

if TYPE_CHECKING:
    from dse.run.queue.rungs import Rungs
    from dse.run.tracking.live import Tracker
    from dse.sweep import Cell, Sweep
    from dse.train.halving import RungTarget

_FLUSH = 60.0  # seconds to wait for MLflow at the end of a sweep
_FLUSH_ABORTED = 5.0  # after an error or a second Ctrl-C


class Driver:
    """``pending``: the cells to run, of all ``cells``, ``retried`` in spite of a result that they have; ``news``: since
    the results were looked at that decided so.

    ``rungs``: judges who goes on at a rung, where the workers do not; ``standing``: what has been done; ``notes``:
    warnings for the user.
    """

    def __init__(
        self,
        sweep: Sweep,
        store: Store,
        cells: Sequence[Cell],
        pending: Sequence[Cell],
        runner: Executor,
        news: ResultWatcher,
        track: bool,
        search: SearchLoop | None = None,
        rungs: Rungs | None = None,
        retried: Collection[str] = (),
        device: str | None = None,
    ) -> None:
        self._sweep, self._store, self._pending, self._runner = sweep, store, pending, runner
        self.notes = _damage(store)
        again = {cell.uid for cell in pending}
        self._cells = {cell.uid: cell for cell in pending}
        found = store.records({cell.uid for cell in cells}, brief=not track)
        self._known = [record for record in found if record.uid not in again]
        before = {record.uid: stamp(record) for record in found if record.uid in again}
        self._attempts = {r.uid: r.attempt + (r.uid in retried) for r in found if r.uid in again}
        self._settled = {record.uid for record in self._known}
        clean(store.folder, self._settled)
        self._manifest = Manifest.of(sweep, store.folder)
        self._manifest.write(store.folder)
        self._claims = Claims(store.folder)
        self.standing = Tally(cells, self._known, runner.workers, device)
        name = _configuration if isinstance(runner, Pruner) else None
        queue = PackQueue([] if rungs else pending, runner.limit, name=name)
        self._search, self._brief, self._rungs = search, not track, rungs
        self.notes += [search.trouble] if search and search.trouble else []
        self._halted: dict[str, tuple[Cell, Record, bool]] = {}  # whose trials may go on yet
        own: Callable[[], Path | None] = lambda: store.own  # noqa: E731
        self._shared = SharedQueue(queue, self._claims, news, pending, before, own, self._hear, self._wanted)
        self._tracker: Tracker | None = None
        self._display: Progress = make_progress(self.standing, False)

    def go(self, progress: bool, track: bool) -> int:
        """Runs what is pending; the number of the signal that stopped it before the last one, or 0."""
        self._display = make_progress(self.standing, progress)
        self._display.say(f"{self._sweep.name}: {len(self._pending)} trials to run, {len(self._known)} done before")
        patience = _FLUSH_ABORTED
        with ExitStack() as stack:
            stop = stack.enter_context(graceful())
            stack.callback(self._claims.close)
            warning, projects = "", track and self._may_project(stack)
            if projects:
                from dse.run.tracking.live import Tracker

                self._tracker = Tracker(self._store.folder, self._manifest, self._known)
            self._known = []  # there may be very many, with all their curves
            try:
                self._run(stop)
                patience = _FLUSH
            except KeyboardInterrupt:  # Tune makes one of its own
                raise Stopped(stop.number or SIGINT) from None
            finally:
                self._display.close()
                self._close_store()
                patience = _FLUSH_ABORTED if stop.urgent else patience
                warning = self._tracker.close(patience) if self._tracker else ""
                self.notes += [warning] if warning else []
                if track and not projects:
                    with suppress(OSError):
                        mark(self._store.folder, self._manifest.identity)
        unfinished = self.standing.left > 0 or bool(self._search and self._search.open)
        stopped = stop.number if unfinished else 0
        if track and not warning and not stop.is_set():
            self._catch_up()
        return stopped

    def _catch_up(self) -> None:
        """MLflow gets what drivers have left behind that have ended meanwhile, this one among them."""
        try:
            catch_up(self._store)
        except Exception as error:  # noqa: BLE001 - the results are stored, and the marks stay
            first = (str(error).strip().splitlines() or [""])[0]
            why = f"{type(error).__name__}: {first}"
            later = command("dashboard", results=self._store.folder)
            self.notes.append(f"MLflow: some runs are not yet projected ({why}); `{later}` adds them")

    def _run(self, stop: Interrupt) -> None:
        told = set[str]()

        def say_once(line: str) -> None:
            if line not in told:
                told.add(line)
                self._display.say(line)

        def on_progress(busy: int, under_way: float) -> None:
            self.standing.move(busy, under_way)
            self._claims.keep()
            if stop.number == SIGHUP:
                leave_terminal()
            if stop.urgent:
                name = Signals(stop.number).name
                say_once(f"{name}: packs that end in {PACK:.0f} s finish, others leave a checkpoint")
            elif stop.is_set():
                say_once("stopping: the running packs finish, or leave a checkpoint; Ctrl-C again stops now")
            elif not busy and self._shared.elsewhere:
                say_once(f"waiting for {_who(self._shared.elsewhere)}")
            self._display.beat()

        supply = GrowingQueue(self._shared, self._grow) if self._search or self._rungs else self._shared
        self._grow()
        self._runner.run(supply, self._finish, on_progress, stop)
        if stop.is_set():
            self._shared.look()

    def _close_store(self) -> None:
        """Ends the shard; where the folder has gone under it, what describes the results is written again as well."""
        try:
            self._store.close()
            if self._store.notes:
                self._manifest.write(self._store.folder)
        except UserError as error:
            self.notes.append(str(error))
        self.notes += self._store.notes
        if self._claims.renewed:
            self.notes.append(f"claims in {self._store.folder} were deleted: other drivers may have run trials again")

    def _grow(self) -> None:
        """Whatever may run next, as far as the results go: what passes a rung, and what the search asks for."""
        if self._rungs and (legs := self._rungs.fresh()):
            self._shared.put((self._cells[uid] for uid in legs), legs)
        while self._search and (new := self._search.more()) is not None:
            known = self._store.records({cell.uid for cell in new}, self._brief)
            done = {record.uid for record in known}
            self._shared.put(cell for cell in new if cell.uid not in done)
            self._search.hear(known)
            self.standing.grow(new, known)
            self._manifest = self._manifest.grown(self._search.sweep)
            self._manifest.write(self._store.folder)
            if self._tracker:
                self._tracker.grow(self._manifest, known)

    def _finish(self, pack: Sequence[tuple[Cell, Record]]) -> None:
        """What a pack of this driver left behind."""
        pack = [(cell, replace(r, attempt=self._attempts.get(cell.uid, 0))) for cell, r in pack]
        told = len(self._store.notes)
        self._store.append(*(record for _, record in pack))  # before anybody else hears of it
        self.notes += [note for note in cautions(record for _, record in pack) if note not in self.notes]
        for note in self._store.notes[told:]:
            self._display.say(note)
        self.standing.move(0, 0.0)
        self._tell(pack, mine=True)

    def _hear(self, found: Sequence[tuple[Cell, Record]]) -> None:
        """What other drivers have done meanwhile."""
        self._tell(found, mine=False)

    def _wanted(self, uid: str, leg: RungTarget | None) -> bool:
        """Whether a trial is still to run a leg: another driver may have brought it there."""
        if self._rungs is None or leg is None:
            return True
        now = self._rungs.leg(uid)
        return now is not None and now.rung == leg.rung

    def _tell(self, found: Sequence[tuple[Cell, Record]], mine: bool) -> None:
        if self._search:
            self._search.hear(record for _, record in found)
        final = self._final([(cell, record, mine) for cell, record in found])
        self._settled.update(cell.uid for cell, _, _ in final)
        clean(self._store.folder, self._settled)
        for cell, record, own in final:
            self.standing.add(record, own)
            if self._tracker:
                self._tracker.put(record)
            self._display.finished(cell, record)

    def _final(self, found: Sequence[tuple[Cell, Record, bool]]) -> Sequence[tuple[Cell, Record, bool]]:
        """What is final now: these results, and those of trials that have waited at a rung and lost there."""
        if self._rungs is None:
            return found
        passed = self._rungs.hear(record for _, record, _ in found)
        self._halted |= {cell.uid: (cell, record, own) for cell, record, own in found}
        look = list(self._halted) if passed else [cell.uid for cell, _, _ in found]
        return [self._halted.pop(uid) for uid in look if not self._rungs.is_open(uid)]

    def _may_project(self, stack: ExitStack) -> bool:
        """One driver at a time writes to MLflow while it runs; what others have run is added when they, or it, end."""
        try:
            stack.enter_context(self._store.lock())
        except InUse:
            return False
        return True


def _configuration(cell: Cell) -> str:
    return configuration(cell.trial)


def _who(elsewhere: Mapping[str, str]) -> str:
    """Who runs the cells that are waited for, and how many."""
    return ", ".join(f"{list(elsewhere.values()).count(who)} trials of {who}" for who in sorted({*elsewhere.values()}))


def _damage(store: Store) -> list[str]:
    return list(filter(None, [str(store.damage)]))
