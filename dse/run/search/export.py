"""Export of a sweep as Optuna studies, to a file that optuna-dashboard opens; made anew from the results each time.

One study per task, ``NAME/TASK``, whatever way the configurations were chosen.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.files import replacing, unwritable
from dse.results.store import Store
from dse.run.search import with_asked_cells
from dse.run.search.journal import key_of
from dse.run.search.objectives import USUAL, Mark, values
from dse.run.search.study import Observation, rebuild
from dse.shell import command

if TYPE_CHECKING:
    from dse.sweep import Assignment, Cell, Sweep

FILE = "optuna.log"


def export(sweep: Sweep, store: Store) -> tuple[Path, int]:
    """Writes ``optuna.log`` into the results folder, in one step; returns it and how many configurations it holds.

    A configuration is in it once all its seeds and their baselines have results. Raises UserError when there is none
    yet, or the folder cannot be written.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    assert sweep.space is not None
    observations = _observations(with_asked_cells(sweep, store.folder), store)
    count = sum(map(len, observations.values()))
    if not count:
        raise UserError(
            f"{sweep.name} has no whole configuration with results in {store.folder} yet; run it first: "
            + command("run", sweep.path, results=store.folder)
        )
    final = store.folder / FILE
    fresh = final.with_name(f"{FILE}.{os.getpid()}.tmp")
    try:
        fresh.unlink(missing_ok=True)
        with replacing(final, fresh, durable=False):
            storage = JournalStorage(JournalFileBackend(str(fresh)))
            for task, items in observations.items():
                name = f"{sweep.name}/{task}"
                study = rebuild(sweep.space, sweep.search, items, storage=storage, study_name=name)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # the method is called experimental
                    study.set_metric_names(list(sweep.search.objectives or USUAL))
    except OSError as error:
        raise unwritable(store.folder, error) from None
    return final, count


def _observations(sweep: Sweep, store: Store) -> dict[str, list[Observation]]:
    """Task -> its configurations with their objectives, in the order of the cells."""
    assert sweep.space is not None
    marks = {r.uid: Mark.of(r) for r in store.records({cell.uid for cell in sweep.cells}, brief=True)}
    groups: dict[object, tuple[Assignment, list[Cell]]] = {}
    for cell in sweep.cells:
        if cell.uid not in cell.baselines.values():
            assignment = sweep.space.assignment(cell.labels)
            groups.setdefault(key_of(assignment), (assignment, []))[1].append(cell)
    names = sweep.search.objectives or USUAL
    found: dict[str, list[Observation]] = {}
    for assignment, cells in groups.values():
        if all(cell.uid in marks and cell.baseline_uid in marks for cell in cells):
            found.setdefault(str(assignment["task"]), []).append(Observation(assignment, values(cells, marks, names)))
    return found
