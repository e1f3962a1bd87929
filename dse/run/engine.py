"""Running a sweep: whatever has no result yet is run, stored, shown and projected. Running it again is the resume.

Several drivers may run sweeps into one results folder at the same time, on one machine or on many that share a file
system with locks: they share the work, and no trial is run twice.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.plan.timing import device_kind
from dse.results.lock import InUse
from dse.results.lookup import called, pick
from dse.results.manifest import Manifest, read_manifests, settle
from dse.results.record import Record
from dse.results.store import Store
from dse.results.watch import ResultWatcher
from dse.run.driver import Driver
from dse.run.executors import Executor, Pruner, make_executor
from dse.run.interrupt import URGENT
from dse.run.queue.final_results import counted, rule
from dse.run.queue.rungs import Rungs
from dse.run.search import SearchLoop, so_far
from dse.run.summary import Summary, summarize
from dse.run.tracking.mlflow_runs import mark
from dse.train.checkpoint import clean
from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.sweep import Cell, Sweep

PLAIN = RunOptions()


def run_sweep(
    sweep: Sweep, store: Store, options: RunOptions = PLAIN, remembered: Mapping[str, str] | None = None
) -> Summary:
    """Runs the cells that have no result yet, and those that ``options.retry`` names.

    ``remembered``: options of the command line that the results folder keeps, for commands that it prints later.

    With nothing to do it imports nothing heavy and writes no result. What another driver is running is waited for.
    Raises UserError for missing data, or a folder that cannot be written; ``Stopped``, a KeyboardInterrupt, on the
    second signal (Ctrl-C twice, say). Whatever was finished by then is stored.
    """
    clock = time.monotonic()
    options = replace(options, halving=rule(sweep), probes=sweep.probes, results=store.folder)
    runner = make_executor(options)
    settle(sweep, store.folder, remembered)
    news = ResultWatcher(store.shards, store.parquet)  # before one looks at the results: nothing falls between
    search = _search(sweep, store, options, runner) if sweep.search.needs_results and not options.only else None
    sweep = search.sweep if search else so_far(sweep, store.folder)
    cells = _only(sweep.cells, options.only)
    done = counted(sweep, cells, store)
    pending = _pending(cells, done, options)
    if not pending:
        clean(store.folder, done.keys())
        _remember(sweep, store)
        return summarize(cells, done, clock)
    rungs = None
    if isinstance(runner, Pruner):
        runner.recall(cells, _staying(cells, store, options))
    elif options.halving:
        rungs = Rungs(options.halving, cells, _staying(cells, store, options))
    retried = [cell.uid for cell in pending if cell.uid in done]
    kind = device_kind(options.device)
    run = Driver(sweep, store, cells, pending, runner, news, options.track, search, rungs, retried, kind)
    signal = run.go(options.progress, options.track)
    notes = [*run.notes, *(_compact(store) if options.compact and signal not in URGENT else [])]
    cells = search.sweep.cells if search else cells
    return summarize(cells, counted(sweep, cells, store), clock, run.standing.done, run.standing.others, signal, notes)


def _only(cells: Sequence[Cell], words: Collection[str]) -> Sequence[Cell]:
    if not words:
        return cells
    chosen = pick({cell.uid: called(cell.config, cell.trial.seed) for cell in cells}, words)
    return [cell for cell in cells if cell.uid in chosen]


def _pending(cells: Sequence[Cell], done: Mapping[str, str], options: RunOptions) -> list[Cell]:
    again = options.retried
    return [cell for cell in cells if cell.uid not in done or again is None or done[cell.uid] in again]


def _staying(cells: Sequence[Cell], store: Store, options: RunOptions) -> list[Record]:
    """The results that are not to be replaced."""
    again = options.retried
    if again is None:
        return []
    return [record for record in store.records({cell.uid for cell in cells}, brief=True) if record.status not in again]


def _search(sweep: Sweep, store: Store, options: RunOptions, runner: Executor) -> SearchLoop:
    """The search, with whatever it asks for first; results that are to be replaced do not count for it.

    Where nobody waits for others at a rung, nobody waits for a batch either.
    """
    asker = None
    if isinstance(runner, Pruner):
        from dse.run.search.one_by_one import OneByOne

        asker = OneByOne(sweep, runner.workers)
    elif sweep.search.halving:
        raise UserError(f"search: halving with the method {sweep.search.method} needs --executor tune")
    search = SearchLoop(sweep, store.folder, asker=asker)
    again = options.retried

    def records(uids: set[str]) -> list[Record]:
        return [r for r in store.records(uids, brief=True) if again is not None and r.status not in again]

    search.catch_up(records)
    return search


def _remember(sweep: Sweep, store: Store) -> None:
    """A sweep whose trials other sweeps have run gets its MLflow experiment when the dashboard is opened next."""
    manifest = Manifest.of(sweep, store.folder)
    if manifest not in read_manifests(store.folder, sweep.name):
        with suppress(UserError, OSError):  # it is fine to look at results that one may not write
            manifest.write(store.folder)
            mark(store.folder, manifest.identity)


def _compact(store: Store) -> list[str]:
    """Compaction is housekeeping: what it cannot do today stays in the shards, where every reader finds it."""
    try:
        store.compact()
    except InUse:  # another driver does it
        return []
    except (OSError, UserError) as error:
        return [f"the results could not be compacted, and stay as shards: {error}"]
    return []


__all__ = ["Summary", "run_sweep"]
