"""Everything about one trial: its sweep, its result, its baseline, and its neighbors one axis apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dse.errors import UserError
from dse.results.lookup import called, pick
from dse.results.manifest import Entry, Manifest, read_manifests
from dse.results.record import Record
from dse.results.store import Store
from dse.shell import first_run

if TYPE_CHECKING:
    from dse.sweep import Label


@dataclass(frozen=True)
class Neighbor:
    """A trial of the same sweep whose labels differ on one axis only."""

    axis: str
    mine: Label
    theirs: Label
    entry: Entry
    record: Record | None


@dataclass(frozen=True)
class Case:
    """A trial and what is known about it; ``record``, ``baseline``: None when they have not run.

    ``sweep``, ``entry``: the sweep (the last one by name, if several have it), None when only its result is known.
    """

    uid: str
    record: Record | None
    baseline: Record | None
    sweep: Manifest | None
    entry: Entry | None
    neighbors: tuple[Neighbor, ...]


def cases(store: Store, word: str) -> list[Case]:
    """The trials that a word names (see ``pick``): one per task, if it is `config@seed`.

    Raises UserError when there is none.
    """
    manifests = read_manifests(store.folder)
    records = {record.uid: record for record in store.records(without=("samples", "probes"))}
    names = {uid: called(record.config, record.seed) for uid, record in records.items()}
    entries = {entry.uid: (manifest, entry) for manifest in manifests for entry in manifest.entries}
    names |= {uid: called(entry.config, entry.labels["seed"]) for uid, (_, entry) in entries.items()}
    if not names:
        raise UserError(f"{store.folder} holds no results yet; start with: {first_run(store.folder)}")
    return [_case(uid, records, *entries.get(uid, (None, None))) for uid in sorted(pick(names, [word]))]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(path, value, other value) wherever two pieces of plain data differ; None where one has nothing.

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


def _case(uid: str, records: Mapping[str, Record], sweep: Manifest | None, entry: Entry | None) -> Case:
    record = records.get(uid)
    baseline = entry.baseline_uid if entry else record.baseline_uid if record else ""
    near = _near(entry, sweep.entries, records) if sweep and entry else ()
    return Case(uid, record, records.get(baseline), sweep, entry, tuple(near))


def _near(mine: Entry, entries: Sequence[Entry], records: Mapping[str, Record]) -> Iterable[Neighbor]:
    for entry in entries:
        apart = [axis for axis in mine.labels if entry.labels.get(axis) != mine.labels[axis]]
        if len(apart) == 1:
            axis = apart[0]
            yield Neighbor(axis, mine.labels[axis], entry.labels.get(axis), entry, records.get(entry.uid))
