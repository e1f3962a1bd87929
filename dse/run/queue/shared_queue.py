"""A queue that several drivers share: cells are claimed before they are handed out, and those that others run are left.

What others have run is done; what they run is waited for; what they gave up, by dying say, is run here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from dse.results.claims import Claims
from dse.results.record import STOPPED, Record
from dse.results.watch import ResultWatcher
from dse.run.queue.pack_queue import PackQueue, WorkItem

if TYPE_CHECKING:
    from pathlib import Path

    from dse.sweep import Cell
    from dse.train.halving import RungTarget

_LOOK = 1.0
"""Seconds between looks at the others, once nothing else is left to do."""


class SharedQueue:
    """See ``Supply``. Cells that have run to a rung may be run on, here or elsewhere: ``wanted`` tells whether one is
    still to run a leg. ``before``: uid -> ``stamp`` of the result that is to be replaced; ``own``: the shard
    of this process; ``on_others`` hears of every cell that another driver has run meanwhile."""

    def __init__(
        self,
        queue: PackQueue,
        claims: Claims,
        news: ResultWatcher,
        cells: Iterable[Cell],
        before: Mapping[str, str],
        own: Callable[[], Path | None],
        on_others: Callable[[Sequence[tuple[Cell, Record]]], None],
        wanted: Callable[[str, RungTarget | None], bool] = lambda uid, leg: True,
    ) -> None:
        self._queue, self._claims, self._news, self._before = queue, claims, news, before
        self._own, self._on_others, self._wanted = own, on_others, wanted
        self._open = {cell.uid: cell for cell in cells}  # of which no result is known
        self._mine: set[str] = set()
        self._waiting: dict[str, str] = {}  # uid -> who runs it
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def elsewhere(self) -> Mapping[str, str]:
        """uid -> who runs it, of the cells that are waited for."""
        return self._waiting

    def share(self, workers: int) -> None:
        self._queue.share(workers)

    def put(self, cells: Iterable[Cell], legs: Mapping[str, RungTarget] | None = None) -> None:
        """More cells to run."""
        new = {cell.uid: cell for cell in cells}
        self._open |= new
        self._queue.put(new.values(), legs)

    def take(self) -> WorkItem | None:
        while load := self._queue.take():
            mine = self._claim(load.cells, load.leg)
            if kept := self._queue.keep(load, mine):
                return kept
        if self._waiting and time.monotonic() - self._looked > _LOOK:
            self._reclaim()
        return None

    def finished(self, load: WorkItem, count: int) -> None:
        waiting = load.leg is not None and load.leg.rung is not None
        if not waiting:
            for cell in load.cells[:count]:
                self._open.pop(cell.uid, None)
        if rest := [cell.uid for cell in load.cells[0 if waiting else count :]]:
            with self._claims.turn():
                self._claims.give_back(rest)
            self._mine.difference_update(rest)
        self._queue.finished(load, count)

    def died(self, load: WorkItem, why: str = "") -> Cell | None:
        guilty = self._queue.died(load, why)
        if guilty:
            self._open.pop(guilty.uid, None)
        return guilty

    def look(self) -> None:
        """Notes what other drivers have finished by now."""
        with self._claims.turn():
            self._look()

    def over(self) -> bool:
        return self._queue.over() and not self._waiting

    def _claim(self, cells: Sequence[Cell], leg: RungTarget | None) -> list[Cell]:
        """Those of the cells that are to be run here."""
        if all(cell.uid in self._mine for cell in cells):
            return list(cells)
        with self._claims.turn():
            others = self._look()
            free = [cell for cell in cells if cell.uid in self._open and self._wanted(cell.uid, leg)]
            self._waiting |= {cell.uid: others[cell.uid] for cell in free if cell.uid in others}
            mine = [cell for cell in free if cell.uid not in others]
            if new := [cell.uid for cell in mine if cell.uid not in self._mine]:
                self._claims.add(new)
        self._mine.update(new)
        return mine

    def _reclaim(self) -> None:
        """Cells whose driver is gone without a result wait again."""
        with self._claims.turn():
            others = self._look()
        self._looked = time.monotonic()
        back = [uid for uid in self._waiting if uid not in others]
        for uid in back:
            del self._waiting[uid]
        self._queue.put(self._open[uid] for uid in back)

    def _look(self) -> Mapping[str, str]:
        """What the others claim; what they have finished is noted."""
        others = self._claims.others()
        records = self._news.fresh(self._open.keys() - self._mine, self._own())
        done = {r.uid: r for r in records if stamp(r) != self._before.get(r.uid)}
        for uid in done:
            self._waiting.pop(uid, None)
        if done:
            self._on_others([(self._open[uid], record) for uid, record in done.items()])
        for uid, record in done.items():
            if record.status != STOPPED:
                del self._open[uid]
        return others


def stamp(record: Record) -> str:
    """Tells a trial's results apart: the attempt, when it was started, and how far it got, which may be within the same
    second."""
    return f"{record.attempt} {record.started}{record.stopped.get('step', '')}"


__all__ = ["SharedQueue", "stamp"]
