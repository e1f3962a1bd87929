"""Compiles what the jobs need in parallel processes first, so that no measurement waits for a compiler.

Triton and torch.compile keep what they compile on disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context

import torch

from dse.bench import processes
from dse.bench.bench_jobs import AheadJob, BenchJob, BenchSettings
from dse.bench.models import linear_features
from dse.bench.rate import tidy
from dse.bench.rate import wait as wait_for_device
from dse.bench.timed_packs import Running, trials

AHEAD = 14
"""Processes on a GPU machine."""
_MOST = 1_700_000_000
"""Inputs and outputs of linears of all members, at most, where a pack is compiled: about 6 GiB; many share a device."""
_LESS = 5
"""Packs give way to the compiled peers, each of which takes longer."""


def compile_ahead(settings: BenchSettings, todo: Sequence[BenchJob], most: float = 600.0) -> float:
    """Starts all compiled peers among the jobs, and computes one step of every pack, those of many recipes first; the
    seconds that it took. After ``most`` seconds the rest is left, and failures are, to the measurements.
    """
    start, jobs = time.perf_counter(), dict.fromkeys(job.ahead for job in todo if job.ahead)
    crowds = processes.start([job.crowd for job in jobs if job.crowd])
    packs = sorted((job for job in jobs if not job.crowd), key=lambda job: -len(job.recipes))
    pool = ProcessPoolExecutor(max(1, min(settings.ahead, len(packs))), get_context("spawn"), os.nice, (_LESS,))
    late = wait([pool.submit(_compile, settings, job) for job in packs], most).not_done
    workers = list((pool._processes or {}).values()) if late else []
    pool.shutdown(wait=not late, cancel_futures=True)
    for worker in workers:
        worker.terminate()
    for crowd in crowds:
        crowd.wait(time.monotonic() + most - (time.perf_counter() - start))
    return time.perf_counter() - start


def _compile(settings: BenchSettings, job: AheadJob) -> None:
    torch.set_num_threads(1)
    with suppress(Exception):  # the measurement reports it
        _pack(settings, job).step()
        wait_for_device(settings.device)
    tidy(settings.device)


def _pack(settings: BenchSettings, job: AheadJob) -> Running:
    """The pack, on a part of the batch where it would take much memory."""
    subject = replace(settings.subject(job.model), activations=job.activations)
    if job.model.startswith("lm-"):
        parts = -(-job.width * subject.tokens() * linear_features(subject) // _MOST)
        subject = replace(subject, batch=max(1, subject.batch // parts))
    return Running(trials(subject, job.width, job.recipes), settings.device)
