"""Compiles the kernels of all packs in parallel processes first, so that no measurement waits for a compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.bench.timed_packs import FALLBACK, MIX, trials
from dse.train.warmup import warm

if TYPE_CHECKING:
    from dse.bench.contenders import BenchSettings

AHEAD = 12
"""Processes on a GPU machine."""


def compile_ahead(settings: BenchSettings, jobs: Sequence[str]) -> float:
    """One step of a narrow pack for every pack among the ``jobs`` (``variant:model``); the seconds that it took.

    Failures are left to the measurements.
    """
    packs = list(dict.fromkeys(pack for job in jobs for pack in _packs(job)))
    lineups = [trials(settings.subject(name), width, recipes) for name, recipes, width in packs]
    return warm(lineups, settings.device, None, settings.ahead, parts=1).seconds


def _packs(job: str) -> list[tuple[str, tuple[str, ...], int]]:
    """(model, recipes, width) of a job's packs; a width of one is a case of its own to the compiler."""
    variant, _, model = job.partition(":")
    several = {"pack": MIX, "bf16": ("bf16",), "fp4": ("nvfp4",), "fallback": FALLBACK}
    if variant == "widths":
        return [(model, MIX, 1)]
    return [(model, several[variant], max(2, len(several[variant])))] if variant in several else []
