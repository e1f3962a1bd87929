"""Timing of a trial by a few real training steps and one held-out batch, scaled to the whole trial."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from dse.tasks.base import Training
from dse.trial import Trial

_WIDTH = 4
"""Members of the probed pack: trials of a sweep train in packs, where each costs less than alone."""


@dataclass(frozen=True)
class Probe:
    """Seconds of one training step and of one held-out evaluation: a trial's share of its pack."""

    step: float
    evaluation: float

    def seconds(self, training: Training, after: bool = False) -> float:
        """Expected seconds of a whole trial with this batch size; ``after``: of one that quantizes trained weights."""
        if after:
            return 2 * self.evaluation
        evaluations = 2 + ((training.steps - 1) // training.eval_every if training.eval_every else 0)
        return training.steps * self.step + evaluations * self.evaluation


def probe_seconds(
    trial: Trial, data_dir: Path | None = None, device: str = "cpu", steps: int = 3, limit: float = 10.0
) -> Probe:
    """Times ``steps`` training steps after one to warm up, and one held-out batch; fewer steps after ``limit`` seconds.

    On one thread, as a worker runs. Loading the data is not counted: a worker does it once for many trials. Raises
    UserError when the data are missing; leaves torch's random state and thread count as they were.
    """
    import torch

    from dse.pack.grouping import use_kernels
    from dse.pack.step import TrainStep
    from dse.train.loop import load
    from dse.train.warmup import compile_step

    data, _ = load(trial.task, data_dir, device)
    random, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        program = TrainStep([trial] * _WIDTH, data, device, use_kernels(device))
        compile_step(program)

        def step() -> float:
            begin = _now(device)
            program.step()
            return (_now(device) - begin) / _WIDTH

        start = _now(device)
        times = [step()]  # the first step also sets libraries up
        while len(times) <= min(steps, trial.training.steps - 1) and _now(device) - start < limit:
            times.append(step())
        batches = trial.task.held_out(data)
        begin = _now(device)
        program.pack.measure(batches[0])
        share = len(batches[0][0]) / sum(len(batch[0]) for batch in batches)
        return Probe(fmean(times[1:] or times), (_now(device) - begin) / share / _WIDTH)
    finally:
        torch.set_num_threads(threads)
        torch.random.set_rng_state(random)


def _now(device: str) -> float:
    """Seconds, once everything that was started on the device is done."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()
