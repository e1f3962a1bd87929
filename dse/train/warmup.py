"""Warm-up: compiles the kernels of many packs at once, in processes, before the first of them trains.

Triton keeps what it compiles on disk. Which kernels a pack needs depends on the mix of its recipes and on its model's
shapes. Kernels that sum over tokens also depend on the number of tokens: warming up uses a part of the batch, to
save memory, so those few are compiled by the pack itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from dse.trial import Trial

_PARTS = 4


class Warmed(NamedTuple):
    """How long it took, and how many of the packs could be computed."""

    seconds: float
    packs: int


def warm(
    packs: Sequence[Sequence[Trial]], device: str, data_dir: Path | None, processes: int, parts: int = _PARTS
) -> Warmed:
    """A step and an evaluation of each pack: every configuration once, one of ``parts`` of the batch.

    A pack that fails here is left out; its own training will report the error.
    """
    start, worked = time.perf_counter(), 0
    with (
        suppress(BrokenProcessPool),
        ProcessPoolExecutor(max(1, min(processes, len(packs))), get_context("spawn")) as pool,
    ):
        futures = [pool.submit(step, _one_of_each(trials, parts), device, data_dir) for trials in packs]
        for future in futures:
            worked += future.result()
    return Warmed(time.perf_counter() - start, worked)


def step(trials: Sequence[Trial], device: str, data_dir: Path | None) -> bool:
    """Whether one step and one held-out batch could be computed."""
    import torch

    from dse.pack.grouping import member_order, use_kernels
    from dse.pack.step import TrainStep
    from dse.train.loop import load

    torch.set_num_threads(1)
    try:
        kernels = use_kernels(device)
        data, _ = load(trials[0].task, data_dir, device)
        train_step = TrainStep([trials[i] for i in member_order(trials, kernels)], data, device, kernels)
        train_step.step()
        train_step.pack.measure(trials[0].task.held_out(data)[0])
        if device.startswith("cuda"):
            torch.cuda.synchronize()
    except Exception:  # noqa: BLE001 - its own training will report it
        return False
    return True


def _one_of_each(trials: Sequence[Trial], parts: int) -> list[Trial]:
    """One trial per recipe, at least two (packs of one member compile other kernels)."""
    first = list({trial.recipe: trial for trial in reversed(trials)}.values())
    first = first if len(first) > 1 else list(trials[:2])
    return [replace(t, training=replace(t.training, batch=max(1, t.training.batch // parts))) for t in first]


__all__ = ["Warmed", "step", "warm"]
