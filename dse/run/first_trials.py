"""The trials that a sweep's trials start from: they run before it, and keep their trained weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dse.numerics.registry import to_data
from dse.results.store import Store
from dse.results.watch import ResultWatcher
from dse.run.backlog import Backlog
from dse.run.driver import Driver
from dse.run.executors import make_executor
from dse.run.queue.other_drivers import stamps
from dse.run.summary import DriverResult
from dse.sweep.cells.cell import Cell
from dse.sweep.language.labels import Label, format_call
from dse.train.options import RunOptions
from dse.train.weights import missing
from dse.trial import Trial

if TYPE_CHECKING:
    from dse.sweep import Sweep


def run_first(sweep: Sweep, pending: Sequence[Cell], store: Store, options: RunOptions) -> DriverResult | None:
    """Trains what pending cells start from and the results folder has no weights of; their results are stored too.

    None where nothing is missing. A trial that has a result, but no weights, is trained again.
    """
    trials = missing((cell.trial for cell in pending), store.folder)
    if not trials:
        return None
    executor = "ray" if options.executor == "tune" else options.executor
    own = replace(options, executor=executor, track=False, halving=None, probes=None, keep_weights=True)
    watcher = ResultWatcher(store.shards, store.parquet)
    cells = [_cell(trial) for trial in trials]
    recorded = store.done()
    done = {cell.uid: recorded[cell.uid] for cell in cells if cell.uid in recorded}
    replaced = stamps(store.on_each_device(set(done), brief=True)) if done else {}
    backlog = Backlog(sweep, cells, done, cells, watcher, replaced, what="trials that others start from")
    return Driver(store, make_executor(own), own, backlog).run()


def _cell(trial: Trial) -> Cell:
    labels: dict[str, Label] = {
        "task": format_call(trial.task.name, to_data(trial.task)),
        "recipe": trial.recipe.name,
        "seed": trial.seed,
    }
    return Cell(trial, labels, trial.recipe.name, trial.baseline().uid, False)


__all__ = ["run_first"]
