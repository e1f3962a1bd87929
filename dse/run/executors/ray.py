"""Executor that runs packs in Ray actors, of a private local Ray or of the cluster that RAY_ADDRESS names."""

from __future__ import annotations

from dse.run.executors.actor import Actor
from dse.run.executors.attempts import Attempts
from dse.run.executors.base import OnProgress, OnRecords, StopSignal
from dse.run.executors.cluster import cluster
from dse.run.executors.devices import default_max_width, processors
from dse.run.executors.pool import Pool
from dse.run.queue.pack_queue import WorkQueue
from dse.train.options import RunOptions


class RayExecutor:
    """See ``Executor``. It has as many actors as the options say, by default one per processor or GPU of the cluster.

    ``actor``: the class of its actors; ``max_width``: most trials of a pack, by default as many as the device allows.
    """

    def __init__(self, options: RunOptions, actor: type[Actor] = Actor, max_width: int | None = None) -> None:
        self._options, self._actor = options, actor
        self._max_width = max_width or default_max_width(options.device)

    @property
    def workers(self) -> int:
        return self._options.workers or processors()

    @property
    def max_width(self) -> int:
        return self._max_width

    def run(self, queue: WorkQueue, on_records: OnRecords, on_progress: OnProgress, stop: StopSignal) -> None:
        with cluster(self._options) as workers:
            queue.set_workers(workers)
            pool = Pool(self._options, Attempts(self._options, queue, on_records, workers), stop, self._actor)
            try:
                pool.run(on_progress)
            finally:
                pool.close()


__all__ = ["RayExecutor"]
