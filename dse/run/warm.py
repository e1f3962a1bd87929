"""Compiling the kernels of many packs at once, in processes, before the first of them trains.

Triton keeps what it compiles on disk. Which kernels a pack needs depends on the mix of its recipes and on its model's
shapes; on the batch hardly at all, so a quarter of it spares memory.
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

from dse.trial import Trial

_BATCH = 4


def warm(packs: Sequence[Sequence[Trial]], device: str, data_dir: Path | None, processes: int) -> float:
    """A step and an evaluation of each pack (every configuration once); returns the seconds that it took.

    What fails here is left to the pack itself.
    """
    start = time.perf_counter()
    with suppress(BrokenProcessPool), ProcessPoolExecutor(min(processes, len(packs)), get_context("spawn")) as pool:
        for trials in packs:
            pool.submit(step, _one_of_each(trials), device, data_dir)
    return time.perf_counter() - start


def step(trials: Sequence[Trial], device: str, data_dir: Path | None) -> bool:
    """Whether one step and one held-out batch could be computed."""
    import torch

    from dse.pack.lineup import ordered, use_kernels
    from dse.run.program import Program
    from dse.run.train import load

    torch.set_num_threads(1)
    try:
        kernels = use_kernels(device)
        data, _ = load(trials[0].task, data_dir, device)
        program = Program([trials[i] for i in ordered(trials, kernels)], data, device, kernels)
        program.step()
        program.pack.measure(trials[0].task.held_out(data)[0])
        if device.startswith("cuda"):
            torch.cuda.synchronize()
    except Exception:  # noqa: BLE001 - its pack will tell
        return False
    return True


def _one_of_each(trials: Sequence[Trial]) -> list[Trial]:
    """One trial per recipe, at least two (one is a case of its own to the compiler)."""
    first = list({trial.recipe: trial for trial in reversed(trials)}.values())
    first = first if len(first) > 1 else list(trials[:2])
    return [replace(t, training=replace(t.training, batch=max(1, t.training.batch // _BATCH))) for t in first]


__all__ = ["step", "warm"]
