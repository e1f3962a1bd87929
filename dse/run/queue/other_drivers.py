"""Other drivers on the same results folder: which cells they have claimed, and the results they have added."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dse.results.claims import Claims
from dse.results.record import Record
from dse.results.watch import ResultWatcher

if TYPE_CHECKING:
    from pathlib import Path


class OtherDrivers:
    """``claims``: of this driver; ``watcher``: reads their shards; ``replaced``: uid -> ``stamp``s of old results that
    are to be replaced, and so do not count; ``own_shard``: the shard of this driver, which is not read."""

    def __init__(
        self,
        claims: Claims,
        watcher: ResultWatcher,
        replaced: Mapping[str, Collection[str]],
        own_shard: Callable[[], Path | None],
    ) -> None:
        self._claims, self._watcher, self._replaced, self._own_shard = claims, watcher, replaced, own_shard

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The right to read and change claims: one driver has it at a time."""
        with self._claims.lock():
            yield

    def claimed(self) -> Mapping[str, str]:
        """uid -> who runs it. Within a ``lock``, as are the methods below."""
        return self._claims.claimed_by_others()

    def claim(self, uids: Collection[str]) -> None:
        """These cells are run by this driver."""
        self._claims.claim(uids)

    def release(self, uids: Collection[str]) -> None:
        """These cells are not run by this driver any more."""
        self._claims.release(uids)

    def new_results(self, uids: Collection[str]) -> dict[str, Record]:
        """uid -> result, of those among ``uids`` that other drivers have added since the last call."""
        records = self._watcher.read_new(uids, self._own_shard())
        return {r.uid: r for r in records if stamp(r) not in self._replaced.get(r.uid, ())}


def stamp(record: Record) -> str:
    """Tells a trial's results apart: the attempt, when it was started, and how far it got, which may be within the same
    second."""
    return f"{record.attempt} {record.started}{record.stopped.get('step', '')}"


def stamps(records: Iterable[Record]) -> dict[str, set[str]]:
    """uid -> the stamps of its results, one for every kind of device that has one."""
    found: dict[str, set[str]] = {}
    for record in records:
        found.setdefault(record.uid, set()).add(stamp(record))
    return found


__all__ = ["OtherDrivers", "stamp", "stamps"]
