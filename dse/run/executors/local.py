"""Packs in this process, one after the other: for tests, notebooks and debuggers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.run.executors.base import OnProgress, OnRecord, Options, Stop, Worker, check_device, widest
from dse.run.packing import Queue

if TYPE_CHECKING:
    from dse.sweep import Cell


class LocalExecutor:
    """One pack at a time, whatever ``workers`` says."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @property
    def workers(self) -> int:
        return 1

    def run(self, cells: Sequence[Cell], on_record: OnRecord, on_progress: OnProgress, stop: Stop) -> None:
        """See ``Executor``. The caller's number of torch threads is restored at the end."""
        import torch

        check_device(self._options.device)
        threads = torch.get_num_threads()
        worker = Worker(self._options.data_dir, self._options.device)
        try:
            queue = Queue(cells, 1, widest(self._options.device))
            while not stop.is_set() and (load := queue.take()):
                busy = len(load.cells)
                records = worker.run(
                    [cell.trial for cell in load.cells],
                    [cell.config for cell in load.cells],
                    load.width,
                    lambda step, steps, busy=busy: on_progress(busy),  # type: ignore[misc]
                )
                queue.finished(load, len(records))
                for cell, record in zip(load.cells, records, strict=False):
                    on_record(cell, record)
        finally:
            torch.set_num_threads(threads)
