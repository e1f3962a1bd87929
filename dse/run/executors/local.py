"""Packs in this process, one after the other: for tests, notebooks and debuggers."""

from __future__ import annotations

import time

from dse.run.executors.attempts import Attempt
from dse.run.executors.base import OnProgress, OnRecords, Stop, check_device, patience, widest
from dse.run.executors.worker import Worker
from dse.run.queue.pack_queue import WorkQueue
from dse.train.options import RunOptions

_NAP = 0.2  # seconds between calls of a queue that has nothing just now


class LocalExecutor:
    """One pack at a time, whatever ``workers`` says."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options

    @property
    def workers(self) -> int:
        return 1

    @property
    def limit(self) -> int:
        return widest(self._options.device)

    def run(self, queue: WorkQueue, on_records: OnRecords, on_progress: OnProgress, stop: Stop) -> None:
        """See ``Executor``. The caller's number of torch threads is restored at the end."""
        import torch

        check_device(self._options.device)
        threads = torch.get_num_threads()
        worker = Worker(self._options)
        queue.set_workers(1)
        try:
            while not stop.is_set() and not queue.exhausted():
                item = queue.take()
                if item is None:
                    on_progress(0, 0.0)
                    time.sleep(_NAP)
                    continue
                attempt = Attempt(item, on_records)
                worker.on_done = attempt.add

                def beat(step: int, steps: int) -> None:
                    on_progress(worker.running, worker.done)
                    if stop.is_set():
                        worker.stop(patience(stop))

                records = worker.run(
                    [cell.trial for cell in item.cells],
                    [cell.config for cell in item.cells],
                    item.width,
                    beat,
                    item.target,
                    item.splits,
                )
                attempt.add(records)
                attempt.finish(queue)
        finally:
            torch.set_num_threads(threads)
