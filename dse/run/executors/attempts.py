"""Attempts at running packs in other processes: what is in flight, and what follows when a worker dies or hangs.

A pack whose worker dies is run again in halves, until the trial that kills its worker is alone. That trial is run once
more, then recorded as failed. Nothing here knows Ray: the Ray pool and the Tune bridge report what happens to their
workers, so both follow the same rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.results.record import Record
from dse.run.executors.base import OnRecords
from dse.run.executors.failed_record import failed_record
from dse.run.executors.memory_pressure import WHY, MemoryPressure, death_message, is_memory_kill, summarize
from dse.run.executors.worker_log import append_lines
from dse.run.queue.pack_queue import ATTEMPTS, WorkItem, WorkQueue
from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.sweep import Cell

GRACE = 120.0
"""Seconds beyond a pack's time limit after which its worker is killed: the limit inside the worker has not ended it."""
MOST_DEATHS = 12
"""Deaths of each worker in a row after which a sweep ends. Bisecting a pack of 512 down to the one trial that kills its
worker takes ten, and two more confirm it."""
_NODE_DIED = ("its node has died", "node has crashed", "node was terminated")
_DRIVER_NODE_DIED = "owner has died"
"""Ray's text for an actor that was lost with its node, or with the driver's node; the exception's type is the same."""


class Attempt:
    """A work item that a worker has, and the records that have come back so far.

    ``since``: when the worker began, on the clock of ``Attempts``; ``timed_out``: its worker was killed for taking too
    long.
    """

    def __init__(self, item: WorkItem, on_records: OnRecords, since: float = 0.0) -> None:
        self.item, self.since, self.timed_out = item, since, False
        self._on_records = on_records
        self._begun = False
        self._open = list(item.cells)
        self._ended: list[Cell] = []

    def begin(self, now: float) -> None:
        """The worker has started on the item; only the first call counts."""
        if not self._begun:
            self._begun, self.since = True, now

    def add(self, records: Sequence[Record]) -> None:
        """Passes records to ``on_records``; a record that comes several times is passed on once."""
        known = {record.uid: record for record in records}
        new = [(cell, known[cell.uid]) for cell in self._open if cell.uid in known]
        if new:
            self._open = [cell for cell in self._open if cell.uid not in known]
            self._ended += [cell for cell, _ in new]
            self._on_records(new)

    def finish(self, queue: WorkQueue) -> None:
        """Gives the item back to the queue: cells without a record wait again."""
        order = {cell.uid: place for place, cell in enumerate(self.item.cells)}
        ended = sorted(self._ended, key=lambda cell: order[cell.uid])
        queue.done(replace(self.item, cells=(*ended, *self._open)), len(ended))

    def fail(self, queue: WorkQueue, why: str, excused: bool = False) -> Cell | None:
        """Its worker died: the queue hands out the cells without a record again, in halves (``WorkQueue.requeue``).

        ``excused``: this does not count as an attempt of a trial that ran alone. Returns the cell that kills its
        workers, once that is known; it is not run again.
        """
        item = replace(self.item, attempt=self.item.attempt - 1) if excused else self.item
        if self._ended:
            queue.done(replace(item, cells=tuple(self._ended), width=len(self._ended)), len(self._ended))
        return queue.requeue(replace(item, cells=tuple(self._open)), why) if self._open else None


class Attempts:
    """All attempts of a run: starts them, ends them, and counts the workers that died in a row.

    ``workers``: how many there are; ``clock``: seconds, as ``time.monotonic`` counts them.
    """

    def __init__(
        self,
        options: RunOptions,
        queue: WorkQueue,
        on_records: OnRecords,
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue, self.workers = queue, workers
        self._options, self._on_records, self._clock = options, on_records, clock
        self._deaths = 0
        self._pressure = MemoryPressure(workers, clock)

    @property
    def pausing(self) -> bool:
        """Whether to start nothing now, because the machine was low on memory a moment ago."""
        return self._pressure.pausing

    def start(self) -> Attempt | None:
        """An attempt at the next item of the queue; None when nothing can be started now."""
        item = None if self.pausing else self.queue.take()
        return Attempt(item, self._on_records, self._clock()) if item else None

    def begin(self, attempt: Attempt) -> None:
        """The worker has started on it, which may be later than ``start``: the time limit counts from here."""
        attempt.begin(self._clock())

    def seconds(self, attempt: Attempt) -> float:
        """Seconds since its worker has begun."""
        return self._clock() - attempt.since

    def overdue(self, attempt: Attempt) -> bool:
        """Whether its worker is to be killed now because it takes too long; true once."""
        limit = self._options.timeout
        if not limit or attempt.timed_out:
            return False
        attempt.timed_out = self.seconds(attempt) > limit * len(attempt.item.cells) + GRACE
        return attempt.timed_out

    def finish(self, attempt: Attempt, records: Sequence[Record]) -> None:
        """The worker is done with it. Trials without a record (it was asked to stop) wait again."""
        self.reset_deaths()
        attempt.add(records)
        attempt.finish(self.queue)

    def reset_deaths(self) -> None:
        """A worker has got something done, so the deaths before it were not in a row with those that follow."""
        self._deaths = 0
        self._pressure.reset()

    def fail(self, attempt: Attempt, error: object) -> None:
        """The worker of an attempt died. Raises UserError when nothing can go on.

        An attempt whose whole machine died says nothing about its trials: they wait again as they were.
        """
        by_pressure = self._count_death("" if attempt.timed_out else error)
        if not attempt.timed_out and any(words in str(error) for words in _NODE_DIED):
            attempt.finish(self.queue)
        else:
            self._retry(attempt, error, by_pressure)
        self._check_deaths(MOST_DEATHS * (self.workers + 1), error)

    def fail_to_start(self, error: object) -> None:
        """A worker died before it had an item. Raises UserError when more of them did than there are workers."""
        self._count_death(error)
        self._check_deaths(self.workers, error)

    def _count_death(self, error: object) -> bool:
        """Whether the machine was low on memory, which is counted apart."""
        if _DRIVER_NODE_DIED in str(error):  # every other actor dies too, and no new one can start
            raise UserError(f"Ray has died on this machine; run the same command again to go on: {summarize(error)}")
        if is_memory_kill(error):
            self._pressure.on_kill()
            return True
        self._deaths += 1
        return False

    def _check_deaths(self, most: int, error: object) -> None:
        if self._deaths > most:
            raise UserError(f"{self._deaths} Ray workers died one after the other; the last: {summarize(error)}")

    def _retry(self, attempt: Attempt, error: object, by_pressure: bool) -> None:
        """Runs its trials again. A trial that kills its workers when it runs alone gets a record that says so."""
        seconds, item = self.seconds(attempt), attempt.item
        late = f"no answer in {seconds:.0f} s"
        why = late if attempt.timed_out else WHY if by_pressure else f"its worker died: {summarize(error)}"
        if len(item.cells) > 1:
            append_lines(self._options.results, [f"a pack of {len(item.cells)} trials is tried again in halves: {why}"])
        guilty = attempt.fail(self.queue, why, excused=by_pressure and self._pressure.excuses_last)
        if guilty is None:
            return
        reason = death_message(ATTEMPTS, error)
        if attempt.timed_out:
            reason = f"timed out: {late}, {self._options.timeout:g} s are allowed"
        record = failed_record(guilty.trial, guilty.config, reason, self._options.device, seconds, item.splits)
        self._on_records([(guilty, record)])


__all__ = ["GRACE", "MOST_DEATHS", "Attempt", "Attempts"]
