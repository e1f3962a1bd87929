"""The interface of executors, which run the packs of a queue and return records as soon as they are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from dse.run.queue.pack_queue import WorkQueue

if TYPE_CHECKING:
    from dse.results.record import Record
    from dse.sweep import Cell

OnRecords = Callable[[Sequence[tuple["Cell", "Record"]]], None]
"""Called with new records and the cells that they belong to."""
OnProgress = Callable[[int, float], None]
"""Called at least about once a second, for the display: with the number of trials that are running, and how much of
them is done, in trials (two half-way through: 1.0)."""


class StopSignal(Protocol):
    """Whether somebody asked for no further trials (a threading.Event will do).

    It may have an attribute ``grace``: seconds that running packs may take then (``grace_of``).
    """

    def is_set(self) -> bool: ...


def grace_of(stop: StopSignal) -> float | None:
    """Seconds that a running pack may take once ``stop`` is set; None: the time between two checkpoints."""
    grace: float | None = getattr(stop, "grace", None)
    return grace


class Executor(Protocol):
    """Runs the items of a queue, one pack after the other on each of its workers.

    Every worker uses one torch thread, so that all executors agree bit for bit.
    """

    @property
    def workers(self) -> int:
        """Packs at a time, as far as is known before the start."""
        ...

    @property
    def max_width(self) -> int:
        """Most trials of a pack."""
        ...

    def run(self, queue: WorkQueue, on_records: OnRecords, on_progress: OnProgress, stop: StopSignal) -> None:
        """Runs the queue until it is exhausted.

        ``on_records`` is called in the calling thread, as soon as a pack is finished: only the caller writes results,
        so workers that outlive a killed driver cannot add any. Once ``stop`` is set no trial is begun and those that
        run are waited for; KeyboardInterrupt abandons them. UserError of a trial (missing data, say) is raised at once.
        """
        ...


@runtime_checkable
class Pruner(Executor, Protocol):
    """An executor that decides itself which trials stop at a rung. Its queue hands out configurations: all seeds of
    one."""

    def set_history(self, cells: Sequence[Cell], known: Sequence[Record]) -> None:
        """Called before ``run`` with all cells of the sweep, and the records that there are of them."""
        ...


__all__ = ["Executor", "OnProgress", "OnRecords", "Pruner", "StopSignal", "grace_of"]
