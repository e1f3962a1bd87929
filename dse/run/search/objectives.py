"""The objectives of a search: what it is told about a configuration. All are minimized.

- ``gap``: held-out metric minus that of the paired baseline, in the metric's unit, mean over the seeds;
- ``overhead``: ``dse.cost.excess``, percent of time beside three bare FP4 GEMMs. Among FP4 recipes it is their
  ``overhead``; a wider recipe pays for its slower GEMMs, which would look free otherwise;
- ``time``: ``dse.cost.limits.step_against_bf16``, time of a training step of Llama-3 8B on a B200 with separate
  kernels, BF16 = 1; ``time at llama3-70b on gb200``: the same elsewhere.

A seed that diverged counts as a model that has learned nothing (the baseline's metric before training): the search is
to keep away from there. One that was stopped at a rung has the gap that it had there, to the baseline at that step. One
that failed (crashed, out of memory, timed out) says nothing about accuracy, and is left out; so is one whose baseline
has no metric. With no seed left the configuration is told as failed: without values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from dse.cost.cost_places import cost_place
from dse.cost.limits import step_against_bf16
from dse.cost.training_phases import stated
from dse.results.gaps import metric_at
from dse.results.record import DIVERGED, STOPPED, Record, Status
from dse.sweep.definition.search import TIME_AT

if TYPE_CHECKING:
    from dse.numerics.recipe import Recipe
    from dse.sweep import Cell


class Mark(NamedTuple):
    """What is kept of a record: a search may have very many. ``evals`` where some may stop before the end."""

    status: Status
    metric: float | None
    initial: float | None
    evals: Sequence[Sequence[float | None]] = ()

    @classmethod
    def of(cls, record: Record) -> Mark:
        return cls(record.status, record.metric, record.metric_initial, record.evals)


Marks = Mapping[str, Mark]
Objective = Callable[["Sequence[Cell]", Marks], float | None]
"""Value from a configuration's cells, one per seed, and their results."""


def values(cells: Sequence[Cell], marks: Marks, objectives: Sequence[str]) -> tuple[float, ...] | None:
    """The objectives of a configuration from the results of its cells, one per seed; None when there are none."""
    found = [_objective(name)(cells, marks) for name in objectives]
    known = [value for value in found if value is not None]
    return tuple(known) if len(known) == len(found) and _gap(cells, marks) is not None else None


def _objective(name: str) -> Objective:
    """Of OBJECTIVES, or the time at a place."""
    if name.startswith(TIME_AT):
        at = cost_place(name.removeprefix(TIME_AT))
        return lambda cells, _: step_against_bf16(_costed(cells), at)
    return OBJECTIVES[name]


def _gap(cells: Sequence[Cell], marks: Marks) -> float | None:
    gaps = [gap for cell in cells if (gap := _of_seed(marks[cell.uid], marks.get(cell.baseline_uid))) is not None]
    return fmean(gaps) if gaps else None


def _of_seed(own: Mark, base: Mark | None) -> float | None:
    if base is None or base.metric is None:
        return None
    if own.status == STOPPED and own.evals:
        step, last = own.evals[-1]
        then = metric_at(base.evals, int(step or 0))
        return None if last is None or then is None else last - then
    metric = base.initial if own.status == DIVERGED else own.metric
    return None if metric is None else metric - base.metric


def _costed(cells: Sequence[Cell]) -> Recipe:
    """The recipe with the shares that its schedule has of the trials' steps, as reports cost it."""
    return stated(cells[0].trial.recipe, cells[0].trial.training.steps)


def _overhead(cells: Sequence[Cell], _: Marks) -> float | None:
    return _cost(_costed(cells))


@cache
def _cost(recipe: Recipe) -> float:
    from dse.cost import excess

    return excess(recipe)


def _time(cells: Sequence[Cell], _: Marks) -> float | None:
    return step_against_bf16(_costed(cells))


OBJECTIVES: dict[str, Objective] = {
    "gap": _gap,
    "overhead": _overhead,
    "time": _time,
}
"""Name in the sweep language -> its value; all are minimized."""
USUAL = ("gap", "overhead")
"""What is minimized where a sweep names nothing."""
