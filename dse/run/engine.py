"""Running a sweep: whatever has no result yet is run, stored, shown and projected. Running it again is the resume."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.run.executors import DEFAULT, Executor, make_executor
from dse.run.interrupt import graceful
from dse.run.manifest import Manifest, read_manifests
from dse.run.packing import Queue
from dse.run.progress import Progress, make_progress
from dse.run.record import DIVERGED, FAILED, OK, Record
from dse.run.standing import Standing
from dse.run.store import Store
from dse.run.tracking import BEHIND

if TYPE_CHECKING:
    from dse.run.live import Tracker
    from dse.sweep import Cell, Sweep

_FLUSH = 60.0  # seconds to wait for MLflow at the end of a sweep
_FLUSH_ABORTED = 5.0  # after an error or a second Ctrl-C


@dataclass(frozen=True)
class Summary:
    """What a run of a sweep did.

    - ``total`` cells, of which ``before`` were done already and ``ran`` were run now, in ``seconds``;
    - ``ok``, ``diverged``, ``failed``: results of the whole sweep by status, as it stands;
    - ``stopped``: by Ctrl-C, with cells left; ``notes``: warnings for the user, one line each.
    """

    total: int
    before: int
    ran: int
    ok: int
    diverged: int
    failed: int
    seconds: float
    stopped: bool = False
    notes: tuple[str, ...] = ()

    @property
    def left(self) -> int:
        """Cells without a result."""
        return self.total - self.before - self.ran


def run_sweep(
    sweep: Sweep,
    store: Store,
    executor: str = DEFAULT,
    workers: int | None = None,
    data_dir: Path | None = None,
    device: str = "cpu",
    *,
    progress: bool = True,
    retry_failed: bool = False,
    track: bool = True,
    compact: bool = True,
) -> Summary:
    """Runs the cells that have no result yet; ``retry_failed`` counts failed ones among them. Diverged is a result.

    ``executor``: a name of ``executors.EXECUTORS``; ``workers``: trials at a time, by default one per processor (GPU).
    With nothing to do it imports nothing heavy, takes no lock, and writes no result. Raises UserError for bad options,
    missing data, a folder that cannot be written or that another driver is working on; KeyboardInterrupt on the second
    Ctrl-C. Whatever was finished by then is stored.
    """
    clock = time.monotonic()
    runner = make_executor(executor, workers, data_dir, device)
    done = store.done()
    if not _pending(sweep.cells, done, retry_failed):
        _remember(sweep, store)
        return _summary(sweep, done, 0, clock)
    with store.lock():
        done = store.done()  # another driver may have finished meanwhile
        pending = _pending(sweep.cells, done, retry_failed)
        if not pending:
            return _summary(sweep, done, 0, clock)
        notes = _damage(store)
        known = store.records({cell.uid for cell in sweep.cells} - {cell.uid for cell in pending})
        manifest = Manifest.of(sweep)
        manifest.write(store.folder)
        standing = Standing(sweep.cells, known, runner.workers)
        display = make_progress(standing, progress)
        display.say(f"{sweep.name}: {len(pending)} trials to run, {len(known)} done before")
        tracker = _tracker(store.folder, manifest, known) if track else None
        patience = _FLUSH_ABORTED
        try:
            stopped = _run(runner, pending, store, standing, display, tracker)
            patience = _FLUSH
        finally:
            display.close()
            store.close()
            warning = tracker.close(patience) if tracker else ""
        notes += [warning] if warning else []
        notes += _compact(store) if compact else []
        return _summary(sweep, store.done(), standing.done, clock, stopped, notes)


def _run(
    runner: Executor,
    cells: Sequence[Cell],
    store: Store,
    standing: Standing,
    display: Progress,
    tracker: Tracker | None,
) -> bool:
    """Runs the cells in the sweep's order, baselines first; whether it was stopped before the last one."""
    told = False

    def on_records(pack: Sequence[tuple[Cell, Record]]) -> None:
        store.append(*(record for _, record in pack))  # before anybody else hears of it
        standing.move(0, 0.0)
        for cell, record in pack:
            standing.add(record)
            if tracker:
                tracker.put(record)
            display.finished(cell, record)

    def on_progress(busy: int, under_way: float) -> None:
        nonlocal told
        standing.move(busy, under_way)
        if stop.is_set() and not told:
            told = True
            display.say("stopping: the running packs finish first; Ctrl-C again stops now")
        display.beat()

    with graceful() as stop:
        runner.run(Queue(cells, runner.limit), on_records, on_progress, stop)
    return stop.is_set() and standing.done < standing.total


def _pending(cells: Iterable[Cell], done: Mapping[str, str], retry_failed: bool) -> list[Cell]:
    again = {FAILED} if retry_failed else set[str]()
    return [cell for cell in cells if cell.uid not in done or done[cell.uid] in again]


def _damage(store: Store) -> list[str]:
    if not str(store.damage):
        return []
    return [f"skipped {store.damage} lines in {store.folder / 'shards'}: those trials have no result and run again"]


def _remember(sweep: Sweep, store: Store) -> None:
    """A sweep whose trials other sweeps have run gets its MLflow experiment when the dashboard is opened next."""
    manifest = Manifest.of(sweep)
    if manifest not in read_manifests(store.folder, sweep.name):
        with suppress(UserError, OSError):  # it is fine to look at results that one may not write
            manifest.write(store.folder)
            (store.folder / BEHIND).touch()


def _tracker(results: Path, manifest: Manifest, known: Sequence[Record]) -> Tracker:
    from dse.run.live import Tracker

    return Tracker(results, manifest, known)


def _compact(store: Store) -> list[str]:
    """Compaction is housekeeping: what it cannot do today stays in the shards, where every reader finds it."""
    try:
        store.compact()
    except (OSError, UserError) as error:
        return [f"the results could not be compacted, and stay as shards: {error}"]
    return []


def _summary(
    sweep: Sweep,
    done: Mapping[str, str],
    ran: int,
    clock: float,
    stopped: bool = False,
    notes: Sequence[str] = (),
) -> Summary:
    counts = Counter(done[cell.uid] for cell in sweep.cells if cell.uid in done)
    return Summary(
        total=len(sweep.cells),
        before=counts.total() - ran,
        ran=ran,
        ok=counts[OK],
        diverged=counts[DIVERGED],
        failed=counts[FAILED],
        seconds=round(time.monotonic() - clock, 3),
        stopped=stopped,
        notes=tuple(notes),
    )
