"""A work queue for one of several drivers on a results folder: cells are claimed before they are handed out.

What another driver has run is done; what it is running is waited for; what it gave up (it was killed, say) is run here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from dse.results.record import STOPPED, Record
from dse.run.queue.other_drivers import OtherDrivers
from dse.run.queue.pack_queue import PackQueue, WorkItem

if TYPE_CHECKING:
    from dse.sweep import Cell
    from dse.train.halving import RungTarget

_POLL = 1.0
"""Seconds between looks at the other drivers, once nothing else is left to do."""


class SharedQueue:
    """See ``WorkQueue``. ``on_results``: called with what other drivers have finished.

    Cells that have trained to a rung may be trained further, here or elsewhere; ``needed``: whether a cell, by uid, is
    still to be trained to a target.
    """

    def __init__(
        self,
        queue: PackQueue,
        others: OtherDrivers,
        cells: Iterable[Cell],
        on_results: Callable[[Sequence[tuple[Cell, Record]]], None],
        needed: Callable[[str, RungTarget | None], bool] = lambda uid, target: True,
    ) -> None:
        self._queue, self._others, self._on_results, self._needed = queue, others, on_results, needed
        self._unfinished = {cell.uid: cell for cell in cells}
        self._claimed: set[str] = set()
        self._elsewhere: dict[str, str] = {}
        self._polled = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def elsewhere(self) -> Mapping[str, str]:
        """uid -> who runs it, of the cells that are waited for."""
        return self._elsewhere

    def set_workers(self, count: int) -> None:
        self._queue.set_workers(count)

    def submit(self, cells: Iterable[Cell], targets: Mapping[str, RungTarget] | None = None) -> None:
        """More cells to run; ``targets``: by uid, how far they are to train."""
        new = {cell.uid: cell for cell in cells}
        self._unfinished |= new
        self._queue.submit(new.values(), targets)

    def take(self) -> WorkItem | None:
        while item := self._queue.take():
            claimed = self._claim(item.cells, item.target)
            if narrowed := self._queue.narrow(item, claimed):
                return narrowed
        if self._elsewhere and time.monotonic() - self._polled > _POLL:
            self._take_back()
        return None

    def done(self, item: WorkItem, count: int) -> None:
        waits_at_rung = item.target is not None and item.target.rung is not None
        if not waits_at_rung:
            for cell in item.cells[:count]:
                self._unfinished.pop(cell.uid, None)
        if rest := [cell.uid for cell in item.cells[0 if waits_at_rung else count :]]:
            with self._others.lock():
                self._others.release(rest)
            self._claimed.difference_update(rest)
        self._queue.done(item, count)

    def requeue(self, item: WorkItem, why: str = "") -> Cell | None:
        guilty = self._queue.requeue(item, why)
        if guilty:
            self._unfinished.pop(guilty.uid, None)
        return guilty

    def exhausted(self) -> bool:
        return self._queue.exhausted() and not self._elsewhere

    def poll(self) -> None:
        """Notes what other drivers have finished by now."""
        with self._others.lock():
            self._poll()

    def _claim(self, cells: Sequence[Cell], target: RungTarget | None) -> list[Cell]:
        """Those of the cells that are to be run here."""
        if all(cell.uid in self._claimed for cell in cells):
            return list(cells)
        with self._others.lock():
            others = self._poll()
            free = [cell for cell in cells if cell.uid in self._unfinished and self._needed(cell.uid, target)]
            self._elsewhere |= {cell.uid: others[cell.uid] for cell in free if cell.uid in others}
            own = [cell for cell in free if cell.uid not in others]
            if new := [cell.uid for cell in own if cell.uid not in self._claimed]:
                self._others.claim(new)
        self._claimed.update(new)
        return own

    def _take_back(self) -> None:
        """Queues cells again whose driver is gone without a result."""
        with self._others.lock():
            others = self._poll()
        self._polled = time.monotonic()
        back = [uid for uid in self._elsewhere if uid not in others]
        for uid in back:
            del self._elsewhere[uid]
        self._queue.submit(self._unfinished[uid] for uid in back)

    def _poll(self) -> Mapping[str, str]:
        """What the others have claimed; what they have finished is noted."""
        others = self._others.claimed()
        done = self._others.new_results(self._unfinished.keys() - self._claimed)
        for uid in done:
            self._elsewhere.pop(uid, None)
        if done:
            self._on_results([(self._unfinished[uid], record) for uid, record in done.items()])
        for uid, record in done.items():
            if record.status != STOPPED:
                del self._unfinished[uid]
        return others


__all__ = ["SharedQueue"]
