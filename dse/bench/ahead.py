"""Compiling the kernels of all packs at once, in processes, so that no measurement waits for a compiler.

Triton keeps what it compiles on disk; which kernels a pack needs depends on its recipes and its model's shapes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dse.bench.variants import Settings

AHEAD = 12
"""Processes on a GPU machine."""


def compile_ahead(settings: Settings, jobs: Sequence[str]) -> float:
    """One step of a narrow pack for every pack among the ``jobs`` (``variant:model``); the seconds that it took.

    Failures are left to the measurements.
    """
    start = time.perf_counter()
    packs = list(dict.fromkeys(pack for job in jobs for pack in _packs(job)))
    if packs:
        with (
            suppress(BrokenProcessPool),
            ProcessPoolExecutor(min(settings.ahead, len(packs)), get_context("spawn")) as pool,
        ):
            for name, recipes, width in packs:
                pool.submit(_step, name, recipes, width, settings.quick, settings.device)
    return time.perf_counter() - start


def _packs(job: str) -> list[tuple[str, tuple[str, ...], int]]:
    """(model, recipes, width) of a job's packs; a width of one is a case of its own to the compiler."""
    from dse.bench.members import FALLBACK, MIX

    variant, _, model = job.partition(":")
    several = {"pack": MIX, "bf16": ("bf16",), "fp4": ("nvfp4",), "fallback": FALLBACK}
    if variant == "widths":
        return [(model, MIX, 1)]
    return [(model, several[variant], max(2, len(several[variant])))] if variant in several else []


def _step(name: str, recipes: tuple[str, ...], width: int, quick: bool, device: str) -> None:
    import torch

    from dse.bench.members import Running, trials
    from dse.bench.models import SUBJECTS
    from dse.bench.pace import wait

    torch.set_num_threads(1)
    with suppress(Exception):
        Running(trials(SUBJECTS[name](quick), width, recipes), device).program.step()
        wait(device)


__all__ = ["AHEAD", "compile_ahead"]
