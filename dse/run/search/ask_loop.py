"""The ask-and-tell loop of a search: the next batch of a task is asked for once all results of the last one are told.

Results count in the order of asking, whatever the order of arriving: for a fixed seed the configurations are the same
with any executor and any number of workers. While one task waits for its last results, the others fill the packs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dse.results.identity import identity
from dse.results.record import Record
from dse.run.search import journal
from dse.run.search.objectives import Mark, values
from dse.run.search.samplers import first_batch
from dse.run.search.study import AskRequest, ConfigurationKey, Observation, ask
from dse.sweep import Cell, cell_at, with_cells

if TYPE_CHECKING:
    from dse.results.store import Store
    from dse.sweep import Assignment, Search, Space, Sweep


def with_asked_cells(sweep: Sweep, results: Path) -> Sweep:
    """The sweep with the cells that its search has asked for; any other sweep as it is."""
    if not sweep.search.needs_results or sweep.space is None:
        return sweep
    return with_cells(sweep, _flatten(_journal(sweep, results).by_task.values()))


def with_next_cells(sweep: Sweep, store: Store) -> Sweep:
    """The sweep with the cells that its search has asked for, and those it would ask for next. Nothing is written."""
    if not sweep.search.needs_results:
        return sweep
    search = SearchLoop(sweep, store.folder, dry=True)
    search.catch_up(lambda uids: store.records(uids, brief=True))
    return search.sweep


def search_progress(sweep: Sweep, results: Path) -> str:
    """How far a search is, in words; nothing for other sweeps."""
    if not sweep.search.needs_results:
        return ""
    done, total = _count(sweep, results)
    warning = _journal(sweep, results).warning
    return f"{done} of {total} configurations asked for so far" + (f" ({warning})" if warning else "")


def all_asked(sweep: Sweep, results: Path) -> bool:
    """Whether no further cells are to come."""
    done, total = _count(sweep, results)
    return done >= total


def _count(sweep: Sweep, results: Path) -> tuple[int, int]:
    if not sweep.search.needs_results or sweep.space is None:
        return 0, 0
    done = sum(map(len, _journal(sweep, results).by_task.values()))
    return done, (sweep.search.trials or 0) * len(sweep.space.tasks)


def _journal(sweep: Sweep, results: Path) -> journal.Asked:
    assert sweep.space is not None
    return journal.read(results, identity(sweep, results), sweep.space)


class Asker(Protocol):
    """Decides when to ask for more configurations of a task, and for which."""

    def batch_size(self, asked: int, waiting: int) -> int:
        """How many to ask for now, after ``asked`` of which ``waiting`` have no results yet."""
        ...

    def ask(self, request: AskRequest) -> list[Assignment]:
        """See ``study.ask``."""
        ...


class Batches:
    """Asks for a batch when all results of the last one are known, from a study made anew each time."""

    def __init__(self, space: Space, search: Search) -> None:
        self._space, self._search = space, search

    def batch_size(self, asked: int, waiting: int) -> int:
        return 0 if waiting else max(self._search.batch or 1, first_batch(self._search) - asked)

    def ask(self, request: AskRequest) -> list[Assignment]:
        return ask(self._space, self._search, request)


class SearchLoop:
    """The search of a sweep whose configurations depend on results. ``sweep``: with the cells asked for so far;
    ``warning``: for the user, about damage in the journal.

    ``dry``: the journal is not written. ``asker``: by default ``Batches``.
    """

    def __init__(self, sweep: Sweep, results: Path, dry: bool = False, asker: Asker | None = None) -> None:
        assert sweep.space is not None
        assert sweep.search.needs_results
        self._space, self._settings = sweep.space, sweep.search
        self._results, self._dry = results, dry
        self._asker = asker or Batches(sweep.space, sweep.search)
        self._marks: dict[str, Mark] = {}
        self._cells: dict[ConfigurationKey, list[Cell]] = {}  # configuration -> its cells, one per seed
        self._trials: dict[str, dict[str, None]] = {task: {} for task in self._space.tasks}  # first cells' uids
        self._identity = identity(sweep, results)
        found = journal.read(results, self._identity, self._space)
        self._asked, self.warning = found.by_task, found.warning
        self._exhausted: set[str] = set()  # tasks for which nothing is left to ask
        for task, assignments in self._asked.items():
            self._trials[task].update(dict.fromkeys(map(self._first_uid, assignments)))
        self.sweep = with_cells(sweep, _flatten(self._asked.values()))

    @property
    def asked(self) -> int:
        """Configurations asked for so far, over all tasks."""
        return sum(map(len, self._asked.values()))

    @property
    def active(self) -> bool:
        """Whether anything may be asked for yet."""
        return len(self._exhausted) < len(self._asked)

    def tell(self, records: Iterable[Record]) -> None:
        """Takes results of any cells, baselines among them."""
        self._marks.update((record.uid, Mark.of(record)) for record in records)

    def catch_up(self, records: Callable[[set[str]], Iterable[Record]]) -> None:
        """Asks until results are missing, or nothing is left to ask for; ``records``: returns the results of uids."""
        new: Sequence[Cell] | None = self.sweep.cells
        while new is not None:
            self.tell(records({cell.uid for cell in new}))
            new = self.ask()

    def ask(self) -> Sequence[Cell] | None:
        """The next cells, of every task whose results are all known, in the order in which to run them. None where
        results are missing yet, or the search has ended."""
        before = {cell.uid for cell in self.sweep.cells}
        grown = [task for task in self._asked if self._ask_task(task)]
        if not grown:
            return None
        self.sweep = with_cells(self.sweep, _flatten(self._asked.values()))
        return [cell for cell in self.sweep.cells if cell.uid not in before]

    def observations(self, task: str) -> list[Observation]:
        """The task's configurations whose results are known, in the order of asking."""
        names = self._settings.objectives or ()
        found = [(assignment, self._cells_of(assignment)) for assignment in self._asked[task]]
        return [
            Observation(a, values(cells, self._marks, names) if cells else None)
            for a, cells in found
            if self._have_results(cells)
        ]

    def _ask_task(self, task: str) -> bool:
        """Asks for more configurations of a task; returns whether there are any."""
        if task in self._exhausted:
            return False
        assignments = self._asked[task]
        done, left = len(assignments), (self._settings.trials or 0) - len(assignments)
        waiting = sum(not self._have_results(self._cells_of(assignment)) for assignment in assignments)
        count = self._asker.batch_size(done, waiting)
        if not count or (left <= 0 and waiting):
            return False
        batch: list[Assignment] = []
        if left > 0:
            seen = {journal.key_of(assignment) for assignment in assignments}
            observations, accept = self.observations(task), partial(self._accept, task)
            batch = self._asker.ask(AskRequest(task, observations, seen, min(count, left), accept))
        if batch and not self._dry:
            batch = journal.ask(self._results, self._identity, self._space, task, done, batch)
        if not batch:
            self._exhausted.add(task)
        assignments += batch
        self._trials[task].update(dict.fromkeys(map(self._first_uid, batch)))  # another driver's batch, too
        return bool(batch)

    def _accept(self, task: str, assignment: Assignment) -> bool:
        """Rejects what is not valid, excluded, a baseline, or the same trials as another configuration."""
        cells = self._cells_of(assignment)
        uid = self._first_uid(assignment)
        if not cells or uid in self._trials[task] or any(c.uid in c.baselines.values() for c in cells):
            return False
        self._trials[task][uid] = None
        return True

    def _cells_of(self, assignment: Assignment) -> list[Cell]:
        key = journal.key_of(assignment)
        if key not in self._cells:
            found = [cell_at(self._space, assignment, seed) for seed in self._space.spec.seeds]
            self._cells[key] = [cell for cell in found if isinstance(cell, Cell)]
        return self._cells[key]

    def _first_uid(self, assignment: Assignment) -> str:
        cells = self._cells_of(assignment)
        return cells[0].uid if cells else ""

    def _have_results(self, cells: Sequence[Cell]) -> bool:
        return all(cell.uid in self._marks and cell.baseline_uid in self._marks for cell in cells)


def _flatten(tasks: Iterable[Sequence[Assignment]]) -> list[Assignment]:
    """Task by task, in the order of asking."""
    return [assignment for assignments in tasks for assignment in assignments]
