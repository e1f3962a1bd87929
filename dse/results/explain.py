"""What is known about one trial: its sweep, its record, its baseline, and its neighbors on each axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dse.errors import UserError
from dse.results.by_device import TrialRecords
from dse.results.lookup import find_uids, trial_name
from dse.results.manifest import Entry, Manifest, read_manifests
from dse.results.record import Record
from dse.results.store import Store
from dse.shell import first_run

if TYPE_CHECKING:
    from dse.sweep import Label


@dataclass(frozen=True)
class Neighbor:
    """A trial of the same sweep whose labels differ on one ``axis`` only.

    ``value``: its label there; ``own_value``: that of the trial whose neighbor it is; ``record``: None when it has not
    run.
    """

    axis: str
    own_value: Label
    value: Label
    entry: Entry
    record: Record | None


@dataclass(frozen=True)
class TrialDetails:
    """A trial with all that is known about it. ``record``: the one of its own that counts in the sweep; ``baseline``:
    that of its baseline; None when the trial has not run. ``others``: its own from other kinds of device.

    ``sweep``: its manifest (of several sweeps the last by name); ``entry``: its cell there; None when no sweep has it.
    """

    uid: str
    record: Record | None
    baseline: Record | None
    sweep: Manifest | None
    entry: Entry | None
    neighbors: tuple[Neighbor, ...]
    others: tuple[Record, ...] = ()


def find_trials(store: Store, word: str) -> list[TrialDetails]:
    """The trials that a word names (``find_uids``): `config@seed` names one per task.

    Raises UserError when it names none.
    """
    manifests = read_manifests(store.folder)
    records = store.on_each_device(without=("samples", "probes"))
    names = {record.uid: {trial_name(record.config, record.seed)} for record in records}
    entries = {entry.uid: (manifest, entry) for manifest in manifests for entry in manifest.entries}
    for entry in (entry for manifest in manifests for entry in manifest.entries):
        own = {trial_name(config, entry.labels["seed"]) for config in (entry.config, *entry.also)}
        names.setdefault(entry.uid, set()).update(own)
    if not names:
        raise UserError(f"{store.folder} holds no results yet; start with: {first_run(store.folder)}")
    found = {uid: entries.get(uid, (None, None)) for uid in sorted(find_uids(names, [word]))}
    sweeps = {id(own): own for own, _ in found.values()}
    chosen = {key: _of(own, records) for key, own in sweeps.items()}
    return [_details(uid, chosen[id(own)], own, entry) for uid, (own, entry) in found.items()]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(path, value, other value) for each difference between two nested mappings; None where one has no value.

    >>> list(differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}}))
    [('a.b', 1, 3), ('c', 2, None)]
    """
    yield from _differ(one, other, "")


def _differ(one: Any, other: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            yield from _differ(one.get(key), other.get(key), f"{path}.{key}" if path else str(key))
    elif one != other:
        yield path, one, other


def _of(sweep: Manifest | None, records: Sequence[Record]) -> TrialRecords:
    """Chosen among the records of a sweep, as its report does; without one, among all."""
    if sweep is None:
        return TrialRecords.of(records)
    baselines = {entry.uid: entry.baseline_uid for entry in sweep.entries}
    wanted = {*baselines, *baselines.values()}
    return TrialRecords.of((record for record in records if record.uid in wanted), baselines)


def _details(uid: str, trials: TrialRecords, sweep: Manifest | None, entry: Entry | None) -> TrialDetails:
    record = trials.counting.get(uid)
    baseline = entry.baseline_uid if entry else record.baseline_uid if record else ""
    near = _neighbors(entry, sweep.entries, record, trials) if sweep and entry else ()
    others = tuple(other for other in trials.several.get(uid, {}).values() if other is not record)
    return TrialDetails(uid, record, trials.compared(record, baseline), sweep, entry, tuple(near), others)


def _neighbors(
    mine: Entry, entries: Sequence[Entry], record: Record | None, trials: TrialRecords
) -> Iterable[Neighbor]:
    for entry in entries:
        apart = [axis for axis in mine.labels if entry.labels.get(axis) != mine.labels[axis]]
        if len(apart) == 1:
            axis = apart[0]
            other = trials.compared(record, entry.uid)
            yield Neighbor(axis, mine.labels[axis], entry.labels.get(axis), entry, other)
