"""Ray Tune: asynchronous successive halving (ASHA) of long trials, one configuration with all its seeds per Tune trial.

Nobody waits for others: a configuration that comes to a rung goes on if it is among the best 1/eta of those that have
been there so far. Who stops depends on the order of arriving, so it is final, and marked so. Tune keeps nothing that
counts: what to run comes from the queue, results go to the driver, checkpoints are ours; a run that was killed goes on
like any other.

Source: Li et al., arXiv 1810.05934.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dse.run.executors.attempts import Attempts
from dse.run.executors.base import OnProgress, OnRecords, Stop, processors, widest
from dse.run.executors.cluster import cluster, on_gpu
from dse.run.queue.pack_queue import WorkQueue
from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.results.record import Record
    from dse.sweep import Cell

SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the last step reports no metric
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class TuneExecutor:
    """See ``Judge``."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._past: list[tuple[str, int, float]] = []

    @property
    def workers(self) -> int:
        return self._options.workers or processors()

    @property
    def limit(self) -> int:
        return widest(self._options.device)

    def recall(self, cells: Sequence[Cell], known: Sequence[Record]) -> None:
        from dse.run.executors.asha import past

        self._past = past(self._options.halving, cells, known)

    def run(self, queue: WorkQueue, on_records: OnRecords, on_progress: OnProgress, stop: Stop) -> None:
        for name, value in SETTINGS.items():
            os.environ[name] = value
        with cluster(self._options) as slots, TemporaryDirectory(prefix="dse-tune-") as folder:
            from ray import tune

            from dse.run.executors.asha import Apart
            from dse.run.executors.configuration import Configuration
            from dse.run.executors.tune_bridge import QueueSearcher, TuneBridge, TuneEvents

            os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots)
            bridge = TuneBridge(self._options, Attempts(self._options, queue, on_records, slots), on_progress, stop)
            own = tune.with_parameters(Configuration, options=bridge.worker_options, board=bridge.status)
            request = {"cpu": 1, "gpu": self._options.gpus if on_gpu(self._options) else 0}
            tuner = tune.Tuner(
                tune.with_resources(own, request),
                tune_config=tune.TuneConfig(
                    search_alg=QueueSearcher(bridge),
                    scheduler=Apart(self._options.halving, self._past),
                    num_samples=-1,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="asha",
                    storage_path=folder,
                    verbose=0,
                    callbacks=[TuneEvents(bridge)],
                    failure_config=tune.FailureConfig(max_failures=0),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            )
            try:
                tuner.fit()
            finally:
                bridge.close()
