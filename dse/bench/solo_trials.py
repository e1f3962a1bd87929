"""One whole trial of the smallest language model, alone in this process: seconds under nvfp4 and under bf16."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median

from dse.bench.bench_jobs import BenchJob, BenchSettings
from dse.bench.measurements import Measurement
from dse.bench.rate import wait
from dse.recipes import RECIPES
from dse.results.record import OK
from dse.tasks.lm import LanguageModel
from dse.train.context import TrainContext
from dse.train.loop import run_trial
from dse.train.options import RunOptions
from dse.trial import Trial

FIGURE = "lm tiny trial"
_NAMES = ("nvfp4", "bf16")
_REPEATS = 3


def trial(s: BenchSettings, model: str) -> Iterator[BenchJob]:
    """Both recipes by turns: other load on the machine then meets both."""
    del model
    yield BenchJob(FIGURE, _NAMES, lambda: _measure(s))


def _measure(s: BenchSettings) -> list[Measurement]:
    task = LanguageModel()
    steps = 3 if s.quick else task.training().steps
    trials = {name: Trial(task, replace(task.training(), steps=steps), RECIPES[name], 0) for name in _NAMES}
    for one in trials.values():  # loads the data, imports, compiles
        _seconds(replace(one, training=replace(one.training, steps=3)), s.device)
    times = [{name: _seconds(one, s.device) for name, one in trials.items()} for _ in range(1 if s.quick else _REPEATS)]
    rows = []
    for name in _NAMES:
        wall, processor = (sorted(one[name][at] for one in times) for at in (0, 1))
        note = f"{steps} steps, one thread, evaluation included; wall clock {wall[0]:.2f} to {wall[-1]:.2f} s"
        rows.append(Measurement(FIGURE, name, median(processor), "s of one processor", note=note))
    return rows


def _seconds(one: Trial, device: str) -> tuple[float, float]:
    """Wall clock and processor time of a trial."""
    start, processor = time.perf_counter(), time.process_time()
    record = run_trial(one, TrainContext(RunOptions(device=device)))
    wait(device)
    if record.status != OK:
        raise RuntimeError(f"the trial ended as {record.status}: {record.error}")
    return time.perf_counter() - start, time.process_time() - processor
