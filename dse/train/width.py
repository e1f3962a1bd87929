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
_GROWTH = {"cpu": 2, "cuda": 4}
"""Times as wide as the last is the next: on a GPU each one's kernels have to be compiled first."""
_SECONDS = {"cpu": 30.0, "cuda": 600.0}
"""Longest training of a pack: so much is lost when its worker dies."""
_GAIN = 1.1
"""A wider pack must raise the rate by this factor to be worth it."""
_SHARE = 0.8
"""Of the GPU's free memory, for a pack."""
_STEPS = 2


def measured_width(trials: Sequence[Trial], data: Any, device: str, gpus: float = 1.0) -> int:
    """The number of ``trials`` (of one signature) to train together, at most all of them.

    Widens the pack, by 2 on the CPU and by up to 4 on a GPU, while the rate of member-steps grows by a tenth, the
    memory is expected to fit, and a pack takes no longer than half a minute on the CPU, ten minutes on a GPU. What does
    not fit is tried in half the width, and another failing step ends the search: the pack's own training will report
    the error. ``gpus``: the share of the GPU's memory to use.

    On a GPU the first ``trials`` are measured, which are to be trained first: what a pack costs there depends on how
    many kinds of recipes it has, and those that wait are sorted by it. On the CPU all members cost alike whoever else
    is in the pack, and trials from everywhere are measured.
    """
    kind = torch.device(device).type
    choose = _spread if kind == "cpu" else _first
    width, rate = 1, 0.0
    most = len(trials)
    tried = min(_FIRST[kind], most)
    steps = trials[0].training.steps
    while True:
        try:
            seconds, memory = _measure(choose(trials, tried), data, device)
        except torch.OutOfMemoryError:
            most = tried = tried // 2
            if tried <= width:
                return width
            continue
        except Exception:  # noqa: BLE001 - a trial that fails, which its own pack will report
            return width
        now = tried / seconds
        if rate and now < _GAIN * rate:
            return width
        width, rate = tried, now
        growth = min(_GROWTH[kind], int(_SECONDS[kind] / (seconds * steps)))
        if kind == "cuda":
            growth = min(growth, int(_SHARE * _room(gpus) / max(memory, 1)))
        if tried == most or growth < 2:
            return _within(width, seconds * steps, _SECONDS[kind])
        tried = min(growth * tried, most)


def _room(gpus: float) -> float:
    """Bytes of this GPU that are free, at most our share of all of them."""
    free, total = torch.cuda.mem_get_info()
    return min(free, gpus * total)


def _within(width: int, seconds: float, limit: float) -> int:
    """A narrower width where even the narrowest pack took too long."""
    return max(1, min(width, int(width * limit / seconds)))


def _first(trials: Sequence[Trial], count: int) -> list[Trial]:
    return list(trials[:count])


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
