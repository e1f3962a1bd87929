"""Compiles what the jobs need in parallel processes first, so that no measurement waits for a compiler.

Triton and torch.compile keep what they compile on disk.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from dse.bench import processes
from dse.bench.bench_jobs import AheadJob, BenchJob, BenchSettings
from dse.bench.eager import load
from dse.bench.timed_packs import trials
from dse.kernels.availability import Gpu
from dse.pack.compile_ahead import compile_ahead as compile_packs
from dse.pack.grouping import use_kernels
from dse.trial import Trial

AHEAD = 14
"""Processes on a GPU machine."""


def compile_ahead(settings: BenchSettings, todo: Sequence[BenchJob], most: float = 600.0) -> float:
    """Starts all compiled peers among the jobs, and compiles the kernels of every pack, those of many recipes first;
    the seconds that it took. After ``most`` seconds the rest is left, and failures are, to the measurements.
    """
    start, jobs = time.perf_counter(), dict.fromkeys(job.ahead for job in todo if job.ahead)
    crowds = processes.start([job.crowd for job in jobs if job.crowd])
    packs = sorted((job for job in jobs if not job.crowd), key=lambda job: -len(job.recipes))
    if use_kernels(settings.device):
        compile_packs(_packs(settings, packs), Gpu.of(settings.device), settings.ahead, most)
    for crowd in crowds:
        crowd.wait(time.monotonic() + most - (time.perf_counter() - start))
    return time.perf_counter() - start


def _packs(settings: BenchSettings, jobs: Sequence[AheadJob]) -> Iterator[tuple[Sequence[Trial], Any]]:
    for job in jobs:
        subject = replace(settings.subject(job.model), activations=job.activations)
        yield trials(subject, job.width, job.recipes), load(subject.task, settings.device)
