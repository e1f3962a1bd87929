"""The backlog of a run: which cells of a sweep have no result yet or are retried, and what decides which run next."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.results.lookup import find_uids, trial_name
from dse.results.record import Record
from dse.results.store import Store
from dse.results.watch import ResultWatcher
from dse.run.executors import Executor, Pruner
from dse.run.queue.final_results import final_statuses
from dse.run.queue.other_drivers import stamps
from dse.run.queue.rungs import Rungs
from dse.run.search import SearchLoop, with_asked_cells
from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.sweep import Cell, Sweep


@dataclass(frozen=True)
class Backlog:
    """``cells``: those that count for this run, with the status of those that have a result in ``done``; ``pending``:
    those to run.

    ``watcher``: reads the results that other drivers add, from before ``done`` was read; ``replaced``: ``stamps`` of
    the results that pending cells had by then, which do not count: those that come later are of other drivers.
    ``search``: asks for more cells; ``rungs``: decides which trials train past a rung, where the executor does not;
    ``what``: the cells in words; ``notes``: what to say about them before they run.
    """

    sweep: Sweep
    cells: Sequence[Cell]
    done: Mapping[str, str]
    pending: Sequence[Cell]
    watcher: ResultWatcher
    replaced: Mapping[str, Collection[str]]
    search: SearchLoop | None = None
    rungs: Rungs | None = None
    what: str = "trials"
    notes: tuple[str, ...] = ()

    @property
    def retried(self) -> frozenset[str]:
        """The pending cells (uids) that have a result."""
        return frozenset(cell.uid for cell in self.pending if cell.uid in self.done)


def make_backlog(sweep: Sweep, store: Store, options: RunOptions, executor: Executor) -> Backlog:
    """Reads the results so far. Raises UserError for a trial of ``options.only`` that does not exist."""
    watcher = ResultWatcher(store.shards, store.parquet)  # before the results are read, so that none is missed
    search = _search(sweep, store, options, executor) if sweep.search.needs_results and not options.only else None
    sweep = search.sweep if search else with_asked_cells(sweep, store.folder)
    cells = _chosen(sweep.cells, options.only)
    recorded = store.done()
    done = final_statuses(sweep, cells, store, recorded)
    again = options.retried
    pending = [cell for cell in cells if cell.uid not in done or again is None or done[cell.uid] in again]
    old = {cell.uid for cell in pending if cell.uid in recorded}
    replaced = stamps(store.on_each_device(old, brief=True)) if old else {}
    rungs = None
    if pending and options.halving and not isinstance(executor, Pruner):
        rungs = Rungs(options.halving, cells, kept_results(cells, store, options))
    return Backlog(sweep, cells, done, pending, watcher, replaced, search, rungs)


def kept_results(cells: Sequence[Cell], store: Store, options: RunOptions) -> list[Record]:
    """The results that are not run again, without their curves."""
    return _kept({cell.uid for cell in cells}, store, options)


def _kept(uids: set[str], store: Store, options: RunOptions) -> list[Record]:
    again = options.retried
    if again is None:
        return []
    return [record for record in store.records(uids, brief=True) if record.status not in again]


def _chosen(cells: Sequence[Cell], words: Collection[str]) -> Sequence[Cell]:
    """The trials of ``RunOptions.only``."""
    if not words:
        return cells
    from dse.sweep import config_of

    configs = {cell.uid: (cell.config, *map(config_of, cell.also)) for cell in cells}
    names = {cell.uid: [trial_name(config, cell.trial.seed) for config in configs[cell.uid]] for cell in cells}
    chosen = find_uids(names, words)
    return [cell for cell in cells if cell.uid in chosen]


def _search(sweep: Sweep, store: Store, options: RunOptions, executor: Executor) -> SearchLoop:
    """The search, told all results that are not run again.

    Where no trial waits for others at a rung, none waits for the end of a batch either.
    """
    asker = None
    if isinstance(executor, Pruner):
        from dse.run.search.one_by_one import OneByOne

        asker = OneByOne(sweep, executor.workers)
    elif sweep.search.halving:
        raise UserError(f"search: halving with the method {sweep.search.method} needs --executor tune")
    search = SearchLoop(sweep, store.folder, asker=asker)
    search.catch_up(lambda uids: _kept(uids, store, options))
    return search


__all__ = ["Backlog", "kept_results", "make_backlog"]
