"""A load that was handed to a worker: which of its cells have their results, as these come one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dse.results.record import Record
from dse.run.queue.pack_queue import WorkItem

if TYPE_CHECKING:
    from dse.run.executors.base import OnRecords
    from dse.run.queue.pack_queue import WorkQueue
    from dse.sweep import Cell


class Handed:
    """``keep`` records as they come, once or several times; each goes to ``on_records`` once, and at once."""

    def __init__(self, load: WorkItem, on_records: OnRecords) -> None:
        self.load, self._on_records = load, on_records
        self._open = list(load.cells)
        self._ended: list[Cell] = []

    def keep(self, records: Sequence[Record]) -> None:
        """Stores those that are new."""
        known = {record.uid: record for record in records}
        new = [(cell, known[cell.uid]) for cell in self._open if cell.uid in known]
        if new:
            self._open = [cell for cell in self._open if cell.uid not in known]
            self._ended += [cell for cell, _ in new]
            self._on_records(new)

    def done(self) -> tuple[WorkItem, int]:
        """For ``WorkQueue.finished``: the load with its finished cells first, and how many these are."""
        order = {cell.uid: place for place, cell in enumerate(self.load.cells)}
        ended = sorted(self._ended, key=lambda cell: order[cell.uid])
        return replace(self.load, cells=(*ended, *self._open)), len(ended)

    def excuse(self) -> None:
        """What happens now is no attempt of a trial that runs alone."""
        self.load = replace(self.load, attempt=self.load.attempt - 1)

    def died(self, supply: WorkQueue, why: str) -> Cell | None:
        """Its worker died: the cells without a result are tried again (``WorkQueue.died``)."""
        if self._ended:
            supply.finished(replace(self.load, cells=tuple(self._ended), width=len(self._ended)), len(self._ended))
        if not self._open:
            return None
        return supply.died(replace(self.load, cells=tuple(self._open)), why)


__all__ = ["Handed"]
