"""A work queue that is refilled whenever a worker asks for an item: by a search, or by what has passed a rung."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dse.run.queue.pack_queue import WorkItem, WorkQueue

if TYPE_CHECKING:
    from dse.sweep import Cell


class GrowingQueue:
    """``queue``, with a call of ``refill`` before each item and before it is exhausted; ``refill`` submits to it."""

    def __init__(self, queue: WorkQueue, refill: Callable[[], None]) -> None:
        self._queue, self._refill = queue, refill

    def __len__(self) -> int:
        return len(self._queue)

    def set_workers(self, count: int) -> None:
        self._queue.set_workers(count)

    def take(self) -> WorkItem | None:
        self._refill()
        return self._queue.take()

    def done(self, item: WorkItem, count: int) -> None:
        self._queue.done(item, count)

    def requeue(self, item: WorkItem, why: str = "") -> Cell | None:
        return self._queue.requeue(item, why)

    def exhausted(self) -> bool:
        """Whether everything is done, and nothing follows from its results."""
        if self._queue.exhausted():
            self._refill()
        return self._queue.exhausted()
