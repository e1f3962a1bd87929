"""Executor that runs asynchronous successive halving (ASHA) by Ray Tune; a Tune trial is a configuration, all seeds.

No configuration waits for others: at a rung it goes on if it is among the best 1/eta of those that have been there so
far. Which ones stop depends on the order in which they arrive, so it is final, and marked so in the records. Tune keeps
no state that is needed later: items come from the queue, records go to the driver, and checkpoints are written by the
workers. A run that was killed goes on as under any other executor.

Source: Li et al., arXiv 1810.05934.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dse.run.executors.attempts import Attempts
from dse.run.executors.base import OnProgress, OnRecords, StopSignal
from dse.run.executors.cluster import cluster, needs_gpu
from dse.run.executors.devices import default_max_width, processors
from dse.run.queue.pack_queue import WorkQueue
from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.results.record import Record
    from dse.run.executors.asha import PastMetrics
    from dse.sweep import Cell

SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the last step reports no metric
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class TuneExecutor:
    """See ``Pruner``."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._past: PastMetrics = []

    @property
    def workers(self) -> int:
        return self._options.workers or processors()

    @property
    def max_width(self) -> int:
        return default_max_width(self._options.device)

    def set_history(self, cells: Sequence[Cell], known: Sequence[Record]) -> None:
        from dse.run.executors.asha import past_metrics

        self._past = past_metrics(self._options.halving, cells, known)

    def run(self, queue: WorkQueue, on_records: OnRecords, on_progress: OnProgress, stop: StopSignal) -> None:
        for name, value in SETTINGS.items():
            os.environ[name] = value
        with cluster(self._options) as workers, TemporaryDirectory(prefix="dse-tune-") as folder:
            from ray import tune

            from dse.run.executors.asha import GroupedASHA
            from dse.run.executors.configuration import ConfigurationTrainable
            from dse.run.executors.tune_bridge import QueueSearcher, TuneBridge, TuneEvents

            os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers)
            bridge = TuneBridge(self._options, Attempts(self._options, queue, on_records, workers), on_progress, stop)
            trainable = tune.with_parameters(
                ConfigurationTrainable, options=bridge.worker_options, status=bridge.status
            )
            request = {"cpu": 1, "gpu": self._options.gpus if needs_gpu(self._options) else 0}
            tuner = tune.Tuner(
                tune.with_resources(trainable, request),
                tune_config=tune.TuneConfig(
                    search_alg=QueueSearcher(bridge),
                    scheduler=GroupedASHA(self._options.halving, self._past),
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


__all__ = ["SETTINGS", "TuneExecutor"]
