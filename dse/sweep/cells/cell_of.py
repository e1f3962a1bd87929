"""The cell of an assignment: what a search asks for, one configuration at a time."""

from __future__ import annotations

from dse.sweep.cells.cell import Cell, Excluded
from dse.sweep.cells.pairs import cell_of
from dse.sweep.cells.space import Assignment, Space


def cell_at(space: Space, assignment: Assignment, seed: int) -> Cell | Excluded:
    """The cell of an assignment and a seed, or why there is none. The same arguments give the same cell.

    Raises UserError for an assignment that is not of this space.
    """
    pair = space.pair(assignment)
    labels = pair.at(seed)
    reason = space.exclusion.reason(labels) or pair.setting.reason or pair.variant.reason
    if reason:
        return Excluded(labels, reason)
    references = space.maker.references(pair.setting)
    return cell_of(pair, pair.trial(seed), {name: own.trial(seed).uid for name, own in references.items()})


def baselines_at(space: Space, assignment: Assignment, seed: int) -> tuple[Cell, ...]:
    """The baselines that the cell of an assignment is compared with; the first is its ``baseline_uid``."""
    pairs = space.maker.references(space.pair(assignment).setting)
    trials = {name: pair.trial(seed) for name, pair in pairs.items()}
    uids = {name: trial.uid for name, trial in trials.items()}
    return tuple(cell_of(pair, trials[name], uids) for name, pair in pairs.items())
