"""Results of one trial on several kinds of device: which are kept, which one counts, and with which it is compared.

A kind of device is ``Record.device``: the model of a GPU, or the architecture of a CPU. Trained on another kind, a
trial has other bits, so a gap is of one kind wherever trial and baseline have both run there.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dse.results.record import DIVERGED, OK, STOPPED, Record, Status

RANK: dict[Status, int] = {OK: 3, DIVERGED: 2, STOPPED: 1}
"""Of two results of a trial the one with the higher number counts; a failure is none."""


def kept(records: Iterable[Record]) -> list[Record]:
    """The records that a store keeps, given oldest source first: of each trial the newest one of every kind of device,
    if it ended there (ok or diverged); of a trial that ended nowhere the newest one."""
    newest: dict[str, dict[str, Record]] = {}
    for record in records:
        own = newest.setdefault(record.uid, {})
        if record.device not in own or _order(record) >= _order(own[record.device]):
            own[record.device] = record
    return [record for own in newest.values() for record in _ended(own)]


@dataclass(frozen=True)
class TrialRecords:
    """The records of some trials. ``counting``: uid -> the one that counts; ``several``: uid -> kind of device -> its
    record, of the trials that ended on several kinds."""

    counting: Mapping[str, Record] = field(default_factory=dict)
    several: Mapping[str, Mapping[str, Record]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record], baselines: Mapping[str, str] | None = None) -> TrialRecords:
        """Chooses among the records of a set of trials. ``baselines``: uid -> uid of the trial that it is compared
        with; by default as the records say.

        A success counts before a divergence, that before a stop, that before a failure. Of several successes (or
        divergences) that one counts whose kind of device the baseline succeeded on too, then that of the kind on which
        most trials of the same task ended; as many on two: a GPU before a CPU, then the kind of the newest record.
        """
        known = kept(records)
        by_trial: dict[str, dict[str, Record]] = {}
        for record in known:
            by_trial.setdefault(record.uid, {})[record.device] = record
        several = {uid: own for uid, own in by_trial.items() if len(own) > 1}
        places = _places(known) if several else {}
        counting = {}
        for uid, own in by_trial.items():
            first = next(iter(own.values()))
            if uid in several:
                base = by_trial.get((baselines or {}).get(uid, first.baseline_uid), {})
                first = _preferred(own, base, places[_task(first)])
            counting[uid] = first
        return cls(counting, several)

    def compared(self, record: Record | None, uid: str) -> Record | None:
        """The record of another trial, as its baseline, that ``record`` is compared with: from the same kind of device
        where there is one, else the one that counts. None where that trial has not run."""
        own = self.several.get(uid, {})
        return (own.get(record.device) if record else None) or self.counting.get(uid)


def _ended(own: Mapping[str, Record]) -> list[Record]:
    found = [record for record in own.values() if record.status in (OK, DIVERGED)]
    return found or [max(own.values(), key=_order)]


def _order(record: Record) -> tuple[int, int, str, int]:
    """The attempt tells which is newer, whatever clocks say; of one attempt, or from before attempts were counted, the
    time does. Of two that began in the same second, the one that got further is the newer one."""
    return RANK.get(record.status, 0), record.attempt, record.started, record.stopped.get("step", 0)


def _task(record: Record) -> str:
    """What tells tasks apart, as text: with its options and what it starts from, as sweeps do."""
    return json.dumps([record.task, *(record.trial.get(key) for key in ("options", "start"))], sort_keys=True)


def _places(records: Iterable[Record]) -> dict[str, dict[str, int]]:
    """Task -> kind of device -> its place in the order of preference."""
    counts: dict[str, dict[str, tuple[int, bool, str]]] = defaultdict(dict)
    for record in records:
        own, kind = counts[_task(record)], record.device
        count, _, newest = own.get(kind, (0, False, ""))
        own[kind] = count + 1, not kind.startswith("cpu"), max(newest, record.started)
    return {task: dict(_numbered(own)) for task, own in counts.items()}


def _numbered(counts: Mapping[str, tuple[int, bool, str]]) -> Iterator[tuple[str, int]]:
    ordered = sorted(counts, key=lambda kind: (counts[kind], kind), reverse=True)
    return ((kind, place) for place, kind in enumerate(ordered))


def _preferred(own: Mapping[str, Record], base: Mapping[str, Record], places: Mapping[str, int]) -> Record:
    def order(record: Record) -> tuple[int, bool, int]:
        other = base.get(record.device)
        return -RANK.get(record.status, 0), other is None or other.status != OK, places[record.device]

    return min(own.values(), key=order)


__all__ = ["RANK", "TrialRecords", "kept"]
