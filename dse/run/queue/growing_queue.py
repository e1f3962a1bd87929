"""A supply that grows: a search is asked for more whenever a worker could begin something."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dse.run.queue.pack_queue import WorkItem, WorkQueue

if TYPE_CHECKING:
    from dse.sweep import Cell


class GrowingQueue:
    """A supply to which ``grow`` adds whatever can be known of what is to run next; otherwise the ``inner`` one."""

    def __init__(self, inner: WorkQueue, grow: Callable[[], None]) -> None:
        self._inner, self._grow = inner, grow

    def __len__(self) -> int:
        return len(self._inner)

    def share(self, workers: int) -> None:
        self._inner.share(workers)

    def take(self) -> WorkItem | None:
        self._grow()
        return self._inner.take()

    def finished(self, load: WorkItem, count: int) -> None:
        self._inner.finished(load, count)

    def died(self, load: WorkItem, why: str = "") -> Cell | None:
        return self._inner.died(load, why)

    def over(self) -> bool:
        """All that has been asked for is done, and nothing follows from it."""
        if self._inner.over():
            self._grow()
        return self._inner.over()
