"""What a search has found: what it asked, in which order, what it was told, its front, and which axes mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dse.report.analysis.asked_order import asked
from dse.report.analysis.front import front
from dse.report.analysis.importance import Share, importance
from dse.report.analysis.tidy import TidyTable, text
from dse.results.record import DIVERGED, FAILED, OK, STOPPED
from dse.run.search.objectives import OBJECTIVES, Mark, values
from dse.run.search.samplers import first_batch

if TYPE_CHECKING:
    from pathlib import Path

    from dse.sweep import Assignment, Cell, Sweep


@dataclass(frozen=True)
class AskedConfiguration:
    """A configuration of a search; ``number``: its place in the order of asking, from 1 on.

    ``gap``, ``overhead``: as the sampler is told them (`dse.run.search.objectives`), NaN while unknown. ``state``: OK
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
class Hunt:
    """The search on one entry of `tasks`, ``wanted`` configurations in all; ``free``: the first so many needed no
    results; ``shares``: which axes mattered."""

    task: str
    wanted: int
    free: int
    choices: list[AskedConfiguration]
    shares: list[Share]

    def count(self, state: str) -> int:
        """How many choices are in a state; '' for those that are to run."""
        return sum(choice.state == state for choice in self.choices)

    @property
    def found(self) -> list[AskedConfiguration]:
        """The front so far, cheapest first."""
        return sorted((c for c in self.choices if c.front), key=lambda c: (c.overhead, c.gap))

    @property
    def best(self) -> list[float]:
        """The lowest gap so far, after each choice; NaN before there is any."""
        lowest, found = math.nan, []
        for choice in self.choices:
            if choice.state == OK and not choice.gap >= lowest:
                lowest = choice.gap
            found.append(lowest)
        return found


def hunts(sweep: Sweep, table: TidyTable, results: Path | None) -> list[Hunt]:
    """One per entry of `tasks`; none for a grid. ``results``: the folder with what a search has asked for."""
    lists = asked(sweep, results)
    if not any(lists.values()):
        return []
    marks = {uid: Mark.of(record) for uid, record in table.records.items()}
    cells: dict[tuple[str, str], list[Cell]] = {}
    from dse.sweep import config_of

    for cell in sweep.cells:
        for name in dict.fromkeys([cell.config, *map(config_of, cell.also)]):
            cells.setdefault((text(cell.labels["task"]), name), []).append(cell)
    return [_hunt(sweep, task, chosen, cells, marks) for task, chosen in lists.items()]


def _hunt(
    sweep: Sweep,
    task: str,
    chosen: Sequence[tuple[str, str, Assignment]],
    cells: Mapping[tuple[str, str], list[Cell]],
    marks: Mapping[str, Mark],
) -> Hunt:
    choices = [_choice(i, config, own, cells[label, config], marks) for i, (label, config, own) in enumerate(chosen, 1)]
    sound = [c if c.state == OK else None for c in choices]
    members = front([c.overhead if c else math.nan for c in sound], [c.gap if c else math.nan for c in sound])
    choices = [AskedConfiguration(**{**vars(c), "front": member}) for c, member in zip(choices, members, strict=True)]
    search = sweep.search
    free = first_batch(search) if search.needs_results else len(choices)
    return Hunt(task, search.trials or 0, free, choices, _shares(sweep, choices))


def _choice(
    number: int, config: str, own: Assignment, cells: Sequence[Cell], marks: Mapping[str, Mark]
) -> AskedConfiguration:
    known = all(cell.uid in marks and cell.baseline_uid in marks for cell in cells)
    statuses = {marks[cell.uid].status for cell in cells if cell.uid in marks}
    told = values(cells, marks, ("gap",)) if known else None
    state = next((s for s in (DIVERGED, STOPPED) if s in statuses), OK if told else FAILED) if known else ""
    gap = told[0] if told and state != STOPPED else math.nan  # of seeds that went on alone: not comparable
    overhead = OBJECTIVES["overhead"](cells, marks)
    overhead = math.nan if overhead is None else overhead
    return AskedConfiguration(number, config, str(own["recipe"]), own, gap, overhead, state)


def _shares(sweep: Sweep, choices: Sequence[AskedConfiguration]) -> list[Share]:
    """Stopped ones are left out: their gap is unknown."""
    assert sweep.space is not None
    told = [c for c in choices if c.state in (OK, DIVERGED) and math.isfinite(c.gap)]
    axes: dict[str, list[Any]] = {}
    for dimension in sweep.space.dimensions:
        for axis in dimension.axes:
            ranged = dimension.range is not None
            own = [c.assignment.get(axis.path) for c in told]
            axes[axis.path] = [value if ranged or value is None else text(value) for value in own]
    return importance(axes, [c.gap for c in told])
