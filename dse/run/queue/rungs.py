"""Successive halving over a whole sweep: decides from the results at the rungs how far each trial may train.

The trials of one signature (task, model, data, steps, batch) are compared with each other, in however many packs, on
however many workers and by however many drivers they run. No trial passes a rung before all have reached it, so which
ones go on is a function of the sweep and of the metrics at the rungs, also after an interruption or a change of the
file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dse.pack.grouping import signature
from dse.results.record import BY, OK, STOPPED, Record
from dse.train.halving import HalvingRule, RungTarget

if TYPE_CHECKING:
    from dse.sweep import Cell


class _TrialState(NamedTuple):
    """What is kept of a record. ``metrics``: rung's step -> held-out metric; ``ended``: it will not run any further;
    ``step``: where it has stopped."""

    metrics: dict[int, float | None]
    ended: bool
    status: str
    step: int


class Rungs:
    """Decides for ``cells``, which are compared with each other; ``known``: the results that there are of them."""

    def __init__(self, rule: HalvingRule, cells: Iterable[Cell], known: Iterable[Record] = ()) -> None:
        groups: dict[str, dict[str, Cell]] = {}
        for cell in cells:
            groups.setdefault(signature(cell.trial), {})[cell.uid] = cell
        self._groups = [_ComparedTrials(rule, list(group.values())) for group in groups.values()]
        self._group_of = {cell.uid: group for group in self._groups for cell in group.alive}
        self._new: dict[str, RungTarget] = {}
        self._advance(self._groups, known)

    def tell(self, records: Iterable[Record]) -> bool:
        """Takes results of any trials. Returns whether a rung was passed, which may have ended other trials."""
        return self._advance([], records)

    def new_targets(self) -> dict[str, RungTarget]:
        """uid -> how far it may train, of the trials that may train further since the last call."""
        new, self._new = self._new, {}
        return new

    def target(self, uid: str) -> RungTarget | None:
        """How far a trial may train now; None when it may not."""
        return self._group_of[uid].targets.get(uid) if uid in self._group_of else None

    def is_unfinished(self, uid: str) -> bool:
        """Whether a trial has no final result: it may train, or waits at a rung for others."""
        return uid in self._group_of and uid in self._group_of[uid].unfinished

    @property
    def targets(self) -> dict[str, RungTarget]:
        """``target`` of all that may train."""
        return {uid: target for group in self._groups for uid, target in group.targets.items()}

    @property
    def unfinished(self) -> frozenset[str]:
        """All trials without a final result."""
        return frozenset().union(*(group.unfinished for group in self._groups))

    def _advance(self, groups: Iterable[_ComparedTrials], records: Iterable[Record]) -> bool:
        """Notes the records, then advances the groups of which every trial has arrived, and these ``groups``."""
        touched = dict.fromkeys(groups)
        for record in records:
            if (group := self._group_of.get(record.uid)) is not None:
                group.note(record)
                if not group.targets:
                    touched[group] = None
        for group in touched:
            group.advance()
            self._new |= group.targets
        return bool(touched)


class _ComparedTrials:
    """Trials of one signature. ``alive``: those that have passed the last decided rung; ``targets``: uid -> how far it
    may train now; ``unfinished``: the uids without a final result."""

    def __init__(self, rule: HalvingRule, cells: Sequence[Cell]) -> None:
        self._rule, self.alive = rule, list(cells)
        self._steps = rule.at(cells[0].trial.training.steps)
        self._ahead = sorted(self._steps.items())
        self._marks: dict[str, _TrialState] = {}
        self.targets: dict[str, RungTarget] = {}
        self.unfinished: set[str] = set()

    def note(self, record: Record) -> None:
        """A result; one that got less far than what is known of its trial says nothing new."""
        uid = record.uid
        found = {step: metric for at, metric in record.evals if (step := int(at or 0)) in self._steps}
        ended = record.status != STOPPED or BY in record.stopped
        before = self._marks.get(uid)
        if not ended and before is not None and len(before.metrics) > len(found):
            return
        self._marks[uid] = _TrialState(found, ended, record.status, record.stopped.get("step", 0))
        if ended or (self._ahead and self._has_reached(uid, self._ahead[0][0])):
            self.targets.pop(uid, None)
        if ended:
            self.unfinished.discard(uid)

    def advance(self) -> None:
        """Decides the rungs that all have reached; what is decided stays."""
        while self._ahead:
            step, rung = self._ahead[0]
            late = [cell.uid for cell in self.alive if not self._has_reached(cell.uid, step)]
            if late:
                self.targets = dict.fromkeys(late, RungTarget(rung, len(late) if len(late) == len(self.alive) else 0))
                self.unfinished = self._without_result()
                return
            self.alive = self._survivors(step)
            del self._ahead[0]
        self.unfinished = self._without_result()
        self.targets = {cell.uid: RungTarget() for cell in self.alive if cell.uid in self.unfinished}

    def _survivors(self, step: int) -> list[Cell]:
        """Those that pass a rung. A trial that went further without being evaluated there is not compared: it ran, or
        was stopped, for a file with other rungs, and stays as it is."""
        marks = [self._marks[cell.uid] for cell in self.alive]
        compared = [
            (cell, mark.metrics.get(step))
            for cell, mark in zip(self.alive, marks, strict=True)
            if mark.metrics.get(step) is not None or mark.status not in (OK, STOPPED)
        ]
        lost = {*self._rule.losers([cell.trial for cell, _ in compared], [metric for _, metric in compared])}
        return [cell for i, (cell, metric) in enumerate(compared) if i not in lost and metric is not None]

    def _has_reached(self, uid: str, step: int) -> bool:
        mark = self._marks.get(uid)
        return mark is not None and (mark.ended or step in mark.metrics or mark.step > step)

    def _without_result(self) -> set[str]:
        return {c.uid for c in self.alive if c.uid not in self._marks or not self._marks[c.uid].ended}


__all__ = ["Rungs"]
