"""Packs in Ray actors, one per processor or GPU of a private local Ray or of the cluster that RAY_ADDRESS names."""

from __future__ import annotations

from dse.run.executors.actor import Actor
from dse.run.executors.attempts import Attempts
from dse.run.executors.base import OnProgress, OnRecords, Stop, processors, widest
from dse.run.executors.cluster import cluster
from dse.run.executors.pool import Pool
from dse.run.queue.pack_queue import WorkQueue
from dse.train.options import RunOptions


class RayExecutor:
    """See ``Executor``; ``workers`` actors, by default one per processor or GPU of the cluster."""

    def __init__(self, options: RunOptions, actor: type[Actor] | None = None, limit: int | None = None) -> None:
        """``actor``, ``limit``: another kind of worker, and another widest pack."""
        self._options, self._actor, self._limit = options, actor or Actor, limit

    @property
    def workers(self) -> int:
        return self._options.workers or processors()

    @property
    def limit(self) -> int:
        return self._limit or widest(self._options.device)

    def run(self, queue: WorkQueue, on_records: OnRecords, on_progress: OnProgress, stop: Stop) -> None:
        with cluster(self._options) as slots:
            queue.set_workers(slots)
            pool = Pool(self._options, Attempts(self._options, queue, on_records, slots), stop, self._actor)
            try:
                pool.run(on_progress)
            finally:
                pool.close()
