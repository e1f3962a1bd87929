"""Runs the pack benchmark: every variant of every model, in the order of importance, within a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence

import torch

from dse.bench.bench_jobs import BenchJob, BenchSettings, missing
from dse.bench.bench_variants import ANYWHERE, ASKED, VARIANTS, models_of
from dse.bench.measurements import Measurement
from dse.bench.models import COMPARED, SUBJECTS
from dse.bench.precompile import compile_ahead
from dse.bench.rate import limit, wait
from dse.bench.ratios import ratios
from dse.errors import UserError, nearest

OnRow = Callable[[Measurement], None]

_LIMITS = {
    "processes": 120.0,
    "compiled_processes": 200.0,
    "compiled": 150.0,
    "plain": 150.0,
    "growth": 120.0,
    "trial": 600.0,
}
"""Seconds that a job of a variant may take, compilation included."""
_LIMIT = 90.0


_AHEAD = 0.4
"""Of the budget, at most, for compiling ahead."""


class DeviceLost(RuntimeError):
    """The device answers this process no more; ``left``: the jobs that may have something left to measure."""

    def __init__(self, left: Sequence[str], why: str) -> None:
        super().__init__(f"the device is lost to this process: {why}")
        self.left = tuple(left)


def measure_packs(
    settings: BenchSettings,
    models: Sequence[str] = (),
    only: Sequence[str] = (),
    budget: float = 150.0,
    on_row: OnRow | None = None,
    known: Sequence[Measurement] = (),
) -> list[Measurement]:
    """Rows of every variant of every model, then their ratios.

    ``models``: names of ``SUBJECTS``, by default those of ``COMPARED``; ``only``: variants, or ``variant:model``. The
    important variants come first; none is begun once ``budget`` seconds are used up. A job that fails, or does not end,
    is a row without a value. ``on_row`` is called with each row at once; ``known``: rows of an earlier run, which count
    as measured. Raises UserError for an unknown name, DeviceLost after a fault of the GPU.
    """
    base = settings.small() if settings.quick else settings
    rows = list(known)
    done = {(row.figure, row.variant) for row in rows}

    def add(row: Measurement) -> None:
        rows.append(row)
        done.add((row.figure, row.variant))
        if on_row:
            on_row(row)

    todo, clock, threads = jobs(models, only, base), time.perf_counter(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if base.ahead:
            left = [job for name in todo for job in _of(base, name) if not _known(job, done)]
            seconds = compile_ahead(base, left, _AHEAD * budget)
            add(Measurement("all", "compiled ahead", seconds, "s", note=f"in {base.ahead} processes"))
        for at, name in enumerate(todo):
            try:
                _measure(base, name, clock + budget, done, add)
            except RuntimeError as error:
                raise DeviceLost(todo[at:], str(error).splitlines()[0]) from None
    finally:
        torch.set_num_threads(threads)
    found = ratios(rows, base.device, base.quick)
    for row in found:
        if on_row:
            on_row(row)
    return rows + found


def jobs(models: Sequence[str], only: Sequence[str], settings: BenchSettings) -> list[str]:
    """``variant:model`` of all that is wanted, the most important first; jobs that are named with a model come in the
    order of their naming. Raises UserError for an unknown name."""
    for name in models:
        if name not in SUBJECTS:
            raise UserError(f"bench: unknown model {name!r}{nearest(name, SUBJECTS)}")
    for name in only:
        if name.partition(":")[0] not in VARIANTS or name.partition(":")[2] not in ("", *SUBJECTS):
            raise UserError(f"bench: unknown variant {name!r}{nearest(name, VARIANTS)}")
    chosen = models or tuple(COMPARED)

    def on(variant: str) -> Sequence[str]:
        few = models_of(variant, settings)
        if few is None or (models and variant in ANYWHERE):
            return chosen
        return [model for model in few if model in models] if models else few

    wanted = [variant for variant in VARIANTS if (variant in only if only else variant not in ASKED)]
    return [f"{variant}:{model}" for variant in wanted for model in on(variant)] + [job for job in only if ":" in job]


def _of(settings: BenchSettings, name: str) -> Iterator[BenchJob]:
    variant, _, model = name.partition(":")
    return VARIANTS[variant](settings, model)


def _known(job: BenchJob, done: Collection[tuple[str, str]]) -> bool:
    return all((job.figure, variant) in done for variant in job.variants)


def _measure(settings: BenchSettings, name: str, end: float, done: Collection[tuple[str, str]], add: OnRow) -> None:
    """Everything of one ``variant:model`` that is not ``done``, until the time ``end``. Raises RuntimeError where the
    device is lost."""
    variant = name.partition(":")[0]
    for job in _of(settings, name):
        if _known(job, done):
            continue
        left = end - time.perf_counter()
        if left <= 0:
            add(missing(job.figure, job.variants[0], "the time of this run is used up"))
            return
        try:
            with limit(min(_LIMITS.get(variant, _LIMIT), max(left, 1.0))):
                found = job.measure()
        except Exception as error:  # noqa: BLE001 - one job's failure is a row, the others go on
            found = [missing(job.figure, job.variants[0], error)]
        for row in found:
            add(row)
        wait(settings.device)
