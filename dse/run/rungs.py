"""Halving over a whole sweep: which trials may run how far, from the results at the rungs alone.

The trials of one signature (task, model, data, steps, batch) are compared with each other, in however many packs, on
however many workers and by however many drivers they run. Nobody passes a rung before all have got there, so who goes
on is a function of the sweep and of the metrics at the rungs, also after an interruption or a change of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dse.pack.lineup import signature
from dse.run.halving import Leg, Rule
from dse.run.record import BY, OK, STOPPED, Record

if TYPE_CHECKING:
    from dse.sweep import Cell


class _Mark(NamedTuple):
    """What is kept of a record. ``metrics``: rung's step -> held-out metric; ``ended``: it will not run any further;
    ``step``: where it has stopped."""

    metrics: dict[int, float | None]
    ended: bool
    status: str
    step: int


class _Verdict(NamedTuple):
    """``legs``: uid -> how far it may run now; ``open``: those without a final result, all in the sweep's order."""

    legs: dict[str, Leg]
    open: frozenset[str]


class Rungs:
    """``cells`` that are compared with each other; ``known``: the results that there are of them."""

    def __init__(self, rule: Rule, cells: Iterable[Cell], known: Iterable[Record] = ()) -> None:
        self._rule = rule
        self._groups: dict[str, dict[str, Cell]] = {}
        for cell in cells:
            self._groups.setdefault(signature(cell.trial), {})[cell.uid] = cell
        self._home = {uid: name for name, group in self._groups.items() for uid in group}
        self._steps = {name: rule.at(_steps(group)) for name, group in self._groups.items()}
        self._ahead = {name: sorted(steps.items()) for name, steps in self._steps.items()}  # rungs not passed yet
        self._alive = {name: list(group.values()) for name, group in self._groups.items()}
        self._marks: dict[str, _Mark] = {}
        self._verdicts: dict[str, _Verdict] = {}
        self.hear(known)

    def hear(self, records: Iterable[Record]) -> None:
        """Results of any trials; one that got less far than what is known of its trial says nothing new."""
        for record in records:
            name = self._home.get(record.uid)
            if name is None:
                continue
            found = {step: metric for at, metric in record.evals if (step := int(at or 0)) in self._steps[name]}
            ended = record.status != STOPPED or BY in record.stopped
            own = _Mark(found, ended, record.status, record.stopped.get("step", 0))
            before = self._marks.get(record.uid)
            if own.ended or before is None or len(before.metrics) <= len(found):
                self._marks[record.uid] = own
                self._verdicts.pop(name, None)

    @property
    def legs(self) -> dict[str, Leg]:
        """uid -> how far it may run now, of all that may."""
        return {uid: leg for name in self._groups for uid, leg in self._verdict(name).legs.items()}

    @property
    def open(self) -> frozenset[str]:
        """The trials without a final result: they may run, or wait at a rung for others."""
        return frozenset().union(*(self._verdict(name).open for name in self._groups))

    def leg(self, uid: str) -> Leg | None:
        """How far a trial may run now; None when it may not."""
        return self._verdict(self._home[uid]).legs.get(uid) if uid in self._home else None

    def _verdict(self, name: str) -> _Verdict:
        if name not in self._verdicts:
            self._verdicts[name] = self._judge(name)
        return self._verdicts[name]

    def _judge(self, name: str) -> _Verdict:
        """Passes the rungs where all have been; what is decided there stays."""
        while self._ahead[name]:
            step, rung = self._ahead[name][0]
            alive = self._alive[name]
            late = [cell for cell in alive if not self._was_at(cell, step)]
            if late:
                leg = Leg(rung, len(late) if len(late) == len(alive) else 0)
                return _Verdict({cell.uid: leg for cell in late}, frozenset(c.uid for c in alive if self._runs(c)))
            self._alive[name] = self._go_on(alive, step)
            del self._ahead[name][0]
        left = {cell.uid: Leg() for cell in self._alive[name] if self._runs(cell)}
        return _Verdict(left, frozenset(left))

    def _go_on(self, alive: Sequence[Cell], step: int) -> list[Cell]:
        """Those that pass a rung. A trial that went further without being evaluated there is not compared: it ran, or
        was stopped, for a file with other rungs, and stays as it is."""
        marks = [self._marks[cell.uid] for cell in alive]
        compared = [
            (cell, mark.metrics.get(step))
            for cell, mark in zip(alive, marks, strict=True)
            if mark.metrics.get(step) is not None or mark.status not in (OK, STOPPED)
        ]
        lost = {*self._rule.losers([cell.trial for cell, _ in compared], [metric for _, metric in compared])}
        return [cell for i, (cell, metric) in enumerate(compared) if i not in lost and metric is not None]

    def _was_at(self, cell: Cell, step: int) -> bool:
        mark = self._marks.get(cell.uid)
        return mark is not None and (mark.ended or step in mark.metrics or mark.step > step)

    def _runs(self, cell: Cell) -> bool:
        mark = self._marks.get(cell.uid)
        return mark is None or not mark.ended


def _steps(group: Mapping[str, Cell]) -> int:
    return next(iter(group.values())).trial.training.steps


__all__ = ["Rungs"]
