"""Executors and records of trials that do nothing, to measure what a sweep costs beside the training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dse.results.record import OK, Record
from dse.run.executors.actor import Actor
from dse.run.executors.base import OnProgress, OnRecords, StopSignal
from dse.run.queue.pack_queue import WorkQueue
from dse.sweep import Sweep, load_sweep
from dse.train.context import OnStep
from dse.train.halving import RungTarget
from dse.trial import Trial

POINTS = 100
"""Of the made-up curve: as many as a real one keeps."""
_AXES = 25  # values of the axis beside recipes and seeds

_SWEEP = """
name: bookkeeping
tasks:
  - regression: {{training: {{steps: 100}}}}
recipes: [bf16, mxfp4, nvfp4, ue5m3]
seeds: {seeds}
grid:
  training.lr: [{rates}]
"""


def made_up(trial: Trial, config: str) -> Record:
    """A record of the size that a real one has."""
    curve: list[list[float | None]] = [[step, 1.0 / (step + trial.seed + 1.37)] for step in range(POINTS)]
    return Record(
        uid=trial.uid,
        baseline_uid=trial.baseline().uid,
        status=OK,
        task=trial.task.name,
        recipe=trial.recipe.name,
        config=config,
        seed=trial.seed,
        trial=trial.spec,
        metric=0.1 + trial.seed / 1000,
        metric_initial=1.0,
        metrics={"loss": 0.1},
        curve=curve,
        evals=[[0, 1.0], [POINTS, 0.1]],
        seconds=0.001,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        device="cpu",
        host="here",
        versions={"dse": "0", "torch": "0", "python": "3"},
        pack={"width": 1, "kernels": False, "graph": False, "position": 0},
    )


def sweep_of(trials: int, folder: Path) -> Sweep:
    """A sweep of about so many trials, a multiple of 100, with its file in a folder."""
    path = folder / f"bookkeeping-{trials}.yaml"
    rates = ", ".join(f"{0.001 * (1 + i):g}" for i in range(_AXES))
    path.write_text(_SWEEP.format(seeds=max(1, trials // (4 * _AXES)), rates=rates), encoding="utf-8")
    return load_sweep(path)


class IdleActor(Actor):
    """A Ray worker that only makes records up."""

    def run(
        self,
        trials: Sequence[Trial],
        configs: Sequence[str],
        width: int | None,
        on_step: OnStep | None = None,
        target: RungTarget | None = None,
        splits: tuple[str, ...] = (),
    ) -> list[Record]:
        return [made_up(trial, config) for trial, config in zip(trials, configs, strict=True)]


class IdleExecutor:
    """In this process; ``seconds``: spent on making records up, which is none of the bookkeeping's."""

    workers = 1

    def __init__(self, max_width: int) -> None:
        self.max_width, self.seconds = max_width, 0.0

    def run(self, queue: WorkQueue, on_records: OnRecords, on_progress: OnProgress, stop: StopSignal) -> None:
        """See ``Executor``."""
        while not queue.exhausted():
            if item := queue.take():
                start = time.perf_counter()
                records = [(cell, made_up(cell.trial, cell.config)) for cell in item.cells]
                self.seconds += time.perf_counter() - start
                on_progress(len(records), 0.0)
                on_records(records)
                queue.done(item, len(records))
