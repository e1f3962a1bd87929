"""``run_sweep``: runs the trials of a sweep that have no result yet. Running it again is the resume.

Several drivers may run sweeps into one results folder at the same time, on one machine or on many that share a file
system with locks: they share the work, and no trial is run twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.plan.idle_rules import check_rules
from dse.results.lock import InUse
from dse.results.manifest import Manifest, read_manifests, register_sweep
from dse.results.store import Store
from dse.run.backlog import kept_results, make_backlog
from dse.run.driver import Driver
from dse.run.executors import Pruner, make_executor
from dse.run.first_trials import run_first
from dse.run.interrupt import URGENT
from dse.run.queue.final_results import final_statuses, halving_rule
from dse.run.summary import Summary, summarize
from dse.run.tracking.mlflow_runs import mark
from dse.train.checkpoint import clean
from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.sweep import Sweep

_DEFAULTS = RunOptions()


def run_sweep(
    sweep: Sweep, store: Store, options: RunOptions = _DEFAULTS, remembered: Mapping[str, str] | None = None
) -> Summary:
    """Runs the cells that have no result yet, and those that ``options.retry`` names; before them what they start from.

    ``remembered``: command-line options that the results folder keeps, for the commands that are printed later.

    With nothing to do it imports nothing heavy and writes no result. What another driver is running is waited for.
    Raises UserError for missing data, a rule about layers that a task's model lacks, or a folder that cannot be
    written; ``Stopped``, a KeyboardInterrupt, on the second signal (Ctrl-C twice, say). Whatever was finished by then
    is stored.
    """
    clock = time.monotonic()
    options = replace(options, halving=halving_rule(sweep), probes=sweep.probes, results=store.folder)
    if "weights" in sweep.save:
        import safetensors.torch  # noqa: F401 - before anything is trained

        options = replace(options, save_weights=True)
    executor = make_executor(options)
    register_sweep(sweep, store.folder, remembered)
    backlog = make_backlog(sweep, store, options, executor)
    notes = check_rules(backlog.pending, sweep.path, options.data_dir)
    if not backlog.search and (first := run_first(sweep, backlog.pending, store, options)):
        if first.signal:
            return summarize(backlog.cells, backlog.done, clock, replace(first, ran=0, elsewhere=0))
        backlog = make_backlog(sweep, store, options, executor)
    if not backlog.pending:
        clean(store.folder, backlog.done.keys())
        _remember(backlog.sweep, store)
        return summarize(backlog.cells, backlog.done, clock)
    if isinstance(executor, Pruner):
        executor.set_history(backlog.cells, kept_results(backlog.cells, store, options))
    result = Driver(store, executor, options, replace(backlog, notes=notes)).run()
    if options.compact and result.signal not in URGENT:
        result = replace(result, notes=(*result.notes, *_compact(store)))
    cells = backlog.search.sweep.cells if backlog.search else backlog.cells
    return summarize(cells, final_statuses(backlog.sweep, cells, store), clock, result)


def _remember(sweep: Sweep, store: Store) -> None:
    """Writes the manifest of a sweep whose trials other sweeps have run, and marks it: the dashboard makes its MLflow
    experiment when it is opened next."""
    manifest = Manifest.of(sweep, store.folder)
    if manifest not in read_manifests(store.folder, sweep.name):
        with suppress(UserError, OSError):  # it is fine to look at results that one may not write
            manifest.write(store.folder)
            mark(store.folder, manifest.identity)


def _compact(store: Store) -> list[str]:
    """Merges the shards; returns a warning where that fails: results stay in the shards, where readers find them."""
    try:
        store.compact()
    except InUse:  # another driver does it
        return []
    except (OSError, UserError) as error:
        return [f"the results could not be compacted, and stay as shards: {error}"]
    return []


__all__ = ["Summary", "run_sweep"]
