"""Executor that runs packs in this process, one after the other: for tests, notebooks and debuggers."""

from __future__ import annotations

import time

from dse.run.executors.attempts import Attempt
from dse.run.executors.base import OnProgress, OnRecords, StopSignal, grace_of
from dse.run.executors.devices import check_device, default_max_width
from dse.run.executors.worker import Worker
from dse.run.queue.pack_queue import WorkQueue
from dse.train.options import RunOptions

_POLL = 0.2  # seconds between questions to a queue that has nothing just now


class LocalExecutor:
    """See ``Executor``. It has one worker, whatever the options say."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options

    @property
    def workers(self) -> int:
        return 1

    @property
    def max_width(self) -> int:
        return default_max_width(self._options.device)

    def run(self, queue: WorkQueue, on_records: OnRecords, on_progress: OnProgress, stop: StopSignal) -> None:
        """See ``Executor``. The caller's number of torch threads is restored at the end."""
        import torch

        check_device(self._options.device)
        threads = torch.get_num_threads()
        worker = Worker(self._options)
        queue.set_workers(1)

        def on_step(step: int, steps: int) -> None:
            on_progress(worker.running, worker.done)
            if stop.is_set():
                worker.stop(grace_of(stop))

        try:
            while not stop.is_set() and not queue.exhausted():
                item = queue.take()
                if item is None:
                    on_progress(0, 0.0)
                    time.sleep(_POLL)
                    continue
                attempt = Attempt(item, on_records)
                worker.on_done = attempt.add
                trials, configs = [cell.trial for cell in item.cells], [cell.config for cell in item.cells]
                attempt.add(worker.run(trials, configs, item.width, on_step, item.target, item.splits))
                attempt.finish(queue)
        finally:
            torch.set_num_threads(threads)


__all__ = ["LocalExecutor"]
