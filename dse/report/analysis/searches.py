"""History of a search: the configurations in the order of asking, their results, the Pareto front, and the importance
of each axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from dse.report.analysis.configs import pareto_front
from dse.report.analysis.importance import AxisImportance, axis_importances
from dse.report.analysis.tidy import TidyTable, label_text
from dse.results.record import DIVERGED, FAILED, OK, STOPPED
from dse.run.search.objectives import OBJECTIVES, Mark, values
from dse.run.search.samplers import first_batch

if TYPE_CHECKING:
    from pathlib import Path

    from dse.sweep import Assignment, Cell, Sweep


@dataclass(frozen=True)
class AskedConfiguration:
    """A configuration of a search; ``number``: its place in the order of asking, from 1 on.

    ``gap``, ``overhead``: as the sampler receives them (`dse.run.search.objectives`), NaN while unknown. ``state``: OK
    (every seed has a number), DIVERGED or STOPPED (a seed was), FAILED (no seed says anything), or '' while seeds are
    to run.
    """

    number: int
    config: str
    recipe: str
    assignment: Mapping[str, Any]
    gap: float
    overhead: float
    state: str
    front: bool = False


@dataclass(frozen=True)
class SearchHistory:
    """The search on one entry of `tasks`, in the order of asking.

    ``requested``: configurations that the search is to try; ``startup``: how many at the beginning were chosen without
    results; ``importances``: how much each axis mattered.
    """

    task: str
    requested: int
    startup: int
    configurations: list[AskedConfiguration]
    importances: list[AxisImportance]

    def count(self, state: str) -> int:
        """The number of configurations in a state; '' for those still to run."""
        return sum(one.state == state for one in self.configurations)

    @property
    def front(self) -> list[AskedConfiguration]:
        """The Pareto front so far, cheapest first."""
        return sorted((one for one in self.configurations if one.front), key=lambda one: (one.overhead, one.gap))

    @property
    def best_so_far(self) -> list[float]:
        """The lowest gap after each configuration; NaN before there is any."""
        lowest, found = math.nan, []
        for one in self.configurations:
            if one.state == OK and not one.gap >= lowest:
                lowest = one.gap
            found.append(lowest)
        return found


def search_histories(sweep: Sweep, table: TidyTable, results: Path | None) -> list[SearchHistory]:
    """One per entry of `tasks`; none for a grid. ``results``: the folder with what a search has asked for."""
    lists = asked_configurations(sweep, results)
    if not any(lists.values()):
        return []
    marks = {uid: Mark.of(record) for uid, record in table.records.items()}
    cells: dict[tuple[str, str], list[Cell]] = {}
    from dse.sweep import config_of

    for cell in sweep.cells:
        for name in dict.fromkeys([cell.config, *map(config_of, cell.also)]):
            cells.setdefault((label_text(cell.labels["task"]), name), []).append(cell)
    return [_history(sweep, task, chosen, cells, marks) for task, chosen in lists.items()]


def _history(
    sweep: Sweep,
    task: str,
    chosen: Sequence[tuple[str, str, Assignment]],
    cells: Mapping[tuple[str, str], list[Cell]],
    marks: Mapping[str, Mark],
) -> SearchHistory:
    choices = [
        _configuration(i, config, own, cells[label, config], marks) for i, (label, config, own) in enumerate(chosen, 1)
    ]
    sound = [c if c.state == OK else None for c in choices]
    members = pareto_front([c.overhead if c else math.nan for c in sound], [c.gap if c else math.nan for c in sound])
    choices = [AskedConfiguration(**{**vars(c), "front": member}) for c, member in zip(choices, members, strict=True)]
    search = sweep.search
    free = first_batch(search) if search.needs_results else len(choices)
    return SearchHistory(task, search.trials or 0, free, choices, _importances(sweep, choices))


def _configuration(
    number: int, config: str, own: Assignment, cells: Sequence[Cell], marks: Mapping[str, Mark]
) -> AskedConfiguration:
    known = all(cell.uid in marks and cell.baseline_uid in marks for cell in cells)
    statuses = {marks[cell.uid].status for cell in cells if cell.uid in marks}
    gaps = values(cells, marks, ("gap",)) if known else None
    state = next((s for s in (DIVERGED, STOPPED) if s in statuses), OK if gaps else FAILED) if known else ""
    gap = gaps[0] if gaps and state != STOPPED else math.nan  # over the surviving seeds only, so not comparable
    overhead = OBJECTIVES["overhead"](cells, marks)
    overhead = math.nan if overhead is None else overhead
    return AskedConfiguration(number, config, str(own["recipe"]), own, gap, overhead, state)


def _importances(sweep: Sweep, choices: Sequence[AskedConfiguration]) -> list[AxisImportance]:
    """Stopped ones are left out: their gap is unknown."""
    assert sweep.space is not None
    known = [c for c in choices if c.state in (OK, DIVERGED) and math.isfinite(c.gap)]
    axes: dict[str, list[Any]] = {}
    for dimension in sweep.space.dimensions:
        for axis in dimension.axes:
            ranged = dimension.range is not None
            own = [c.assignment.get(axis.path) for c in known]
            axes[axis.path] = [value if ranged or value is None else label_text(value) for value in own]
    return axis_importances(axes, [c.gap for c in known])


def asked_configurations(sweep: Sweep, results: Path | None) -> dict[str, list[tuple[str, str, Assignment]]]:
    """Entry of `tasks` -> (label of the task, configuration, assignment) in order; empty for a grid.

    What depends on results was written down in the ``results`` folder; without it the order is unknown, and nothing
    is returned. Random and Sobol points are drawn again.
    """
    space, search = sweep.space, sweep.search
    if space is None or search.method == "grid" or (search.needs_results and results is None):
        return {}
    from dse.results.identity import identity
    from dse.run.search import journal
    from dse.sweep.cells.sampling import sample_assignments

    written = journal.asked(results, identity(sweep, results), space) if search.needs_results and results else {}
    there = {(str(labels["task"]), config) for labels, config in _configs(sweep)}
    found: dict[str, list[tuple[str, str, Assignment]]] = {}
    for task in space.tasks:
        mine = found[task] = []
        # draws that mean nothing are passed over, and there may be many: not without an end
        source = (
            written[task]
            if search.needs_results
            else islice(sample_assignments(space, task), 10 * (search.trials or 0))
        )
        for assignment in source:
            pair = space.pair(assignment)
            if (str(pair.setting.label), pair.config) in there:
                mine.append((str(pair.setting.label), pair.config, assignment))
            if len(mine) == search.trials:
                break
    return found


def _configs(sweep: Sweep) -> Iterator[tuple[dict[str, object], str]]:
    from dse.sweep import config_of

    for cell in sweep.cells:
        yield dict(cell.labels), cell.config
        for labels in cell.also:
            yield dict(labels), config_of(labels)
