"""Measurement of the best width of a pack: memory and time of a few steps of packs that double in width."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from dse.pack.grouping import member_order, use_kernels
from dse.pack.step import TrainStep
from dse.train.warmup import compile_step
from dse.trial import Trial

_FIRST = {"cpu": 4, "cuda": 16}
"""Width of the first pack that is measured."""
_SECONDS = {"cpu": 30.0, "cuda": 600.0}
"""Longest training of a pack: so much is lost when its worker dies."""
_GAIN = 1.1
"""Twice the width must raise the rate by this factor to be worth it."""
_SHARE = 0.8
"""Of the GPU's free memory, for a pack."""
_STEPS = 2


def measured_width(trials: Sequence[Trial], data: Any, device: str, gpus: float = 1.0) -> int:
    """The number of ``trials`` (of one signature) to train together, at most all of them.

    Doubles the width while the rate of member-steps grows by a tenth, twice the memory is expected to fit, and a pack
    takes no longer than half a minute on the CPU, ten minutes on a GPU. A failing step ends the search: the pack's own
    training will report the error. ``gpus``: the share of the GPU's memory to use.
    """
    kind = torch.device(device).type
    width, rate = 1, 0.0
    tried = min(_FIRST[kind], len(trials))
    steps = trials[0].training.steps
    while True:
        try:
            seconds, memory = _measure(_spread(trials, tried), data, device)
        except Exception:  # noqa: BLE001 - out of memory, or a trial that fails, which its own pack will report
            return width
        now = tried / seconds
        if rate and now < _GAIN * rate:
            return width
        width, rate = tried, now
        if tried == len(trials) or 2 * seconds * steps > _SECONDS[kind]:
            return _within(width, seconds * steps, _SECONDS[kind])
        if kind == "cuda" and 2 * memory > _SHARE * _room(gpus):
            return width
        tried = min(2 * tried, len(trials))


def _room(gpus: float) -> float:
    """Bytes of this GPU that are free, at most our share of all of them."""
    free, total = torch.cuda.mem_get_info()
    return min(free, gpus * total)


def _within(width: int, seconds: float, limit: float) -> int:
    """A narrower width where even the narrowest pack took too long."""
    return max(1, min(width, int(width * limit / seconds)))


def _spread(trials: Sequence[Trial], count: int) -> list[Trial]:
    """So many of the trials, evenly spread: recipes differ in cost, and neighbors are alike."""
    return [trials[i * len(trials) // count] for i in range(count)]


def _measure(trials: Sequence[Trial], data: Any, device: str) -> tuple[float, int]:
    """Seconds of a step, and bytes of the GPU's memory at its peak."""
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else 0
    kernels = use_kernels(device)
    lineup = [trials[i] for i in member_order(trials, kernels)]  # as the pack will be
    train_step = TrainStep(lineup, data, device, kernels)
    compile_step(train_step)
    train_step.step()
    steps = min(_STEPS, train_step.steps - 1)
    start = _now(cuda)
    for _ in range(steps):
        train_step.step()
    seconds = (_now(cuda) - start) / max(1, steps)
    return max(seconds, 1e-9), (torch.cuda.max_memory_allocated() - before) if cuda else 0


def _now(cuda: bool) -> float:
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter()
