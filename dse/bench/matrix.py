"""Runs the pack benchmark: every variant of every model, in the order of importance, within a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from dse.bench.contenders import VARIANTS, BenchSettings, missing
from dse.bench.measurements import Measurement
from dse.bench.models import SUBJECTS
from dse.bench.precompile import compile_ahead
from dse.bench.rate import limit, wait
from dse.bench.ratios import STEP, ratios
from dse.errors import UserError, nearest

OnRow = Callable[[Measurement], None]

_LIMITS = {"processes": 120.0}
"""Seconds that a variant of one model may take, compilation included."""
_LIMIT = 90.0


class DeviceLost(RuntimeError):
    """The device answers this process no more; ``left``: the jobs that were not tried."""

    def __init__(self, left: Sequence[str], why: str) -> None:
        super().__init__(f"the device is lost to this process: {why}")
        self.left = tuple(left)


def measure_packs(
    settings: BenchSettings,
    models: Sequence[str] = (),
    only: Sequence[str] = (),
    budget: float = 150.0,
    on_row: OnRow | None = None,
) -> list[Measurement]:
    """Rows of every variant of every model, then their ratios.

    ``models``: names of ``SUBJECTS``, all by default; ``only``: variants, or ``variant:model``. The important variants
    come first; none is begun once ``budget`` seconds are used up. A variant that fails, or does not end, is a row
    without a value. ``on_row`` is called with each row at once. Raises UserError for an unknown name, DeviceLost after
    a fault of the GPU.
    """
    base = settings.small() if settings.quick else settings
    rows: list[Measurement] = []

    def add(row: Measurement) -> None:
        rows.append(row)
        if on_row:
            on_row(row)

    todo, clock, threads = jobs(models, only, base), time.perf_counter(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if base.ahead:
            add(Measurement("all", "compiled ahead", compile_ahead(base, todo), "s", note=f"in {base.ahead} processes"))
        for at, job in enumerate(todo):
            left = budget - (time.perf_counter() - clock)
            _measure(base, job, left, add)
            try:
                wait(base.device)
            except RuntimeError as error:
                raise DeviceLost(todo[at + 1 :], str(error).splitlines()[0]) from None
    finally:
        torch.set_num_threads(threads)
    found = ratios(rows, judged(base.device, base.quick))
    for row in found:
        if on_row:
            on_row(row)
    return rows + found


def judged(device: str, quick: bool) -> bool:
    """Whether the targets, which are a GPU's, are of any meaning."""
    return device.startswith("cuda") and not quick


def jobs(models: Sequence[str], only: Sequence[str], settings: BenchSettings) -> list[str]:
    """``variant:model`` of all that is wanted, the most important first. Raises UserError for an unknown name."""
    for name in models:
        if name not in SUBJECTS:
            raise UserError(f"bench: unknown model {name!r}{nearest(name, SUBJECTS)}")
    chosen = models or tuple(SUBJECTS)
    every = [f"{variant}:{model}" for variant in VARIANTS for model in chosen]
    for name in only:
        if name.partition(":")[0] not in VARIANTS or name.partition(":")[2] not in ("", *SUBJECTS):
            raise UserError(f"bench: unknown variant {name!r}{nearest(name, VARIANTS)}")
    few = {"processes": settings.crowded, "peers": settings.compared, "fp4": tuple(STEP), "fallback": ("gpt128",)}
    if settings.quick:
        few = {variant: ("mlp",) for variant in VARIANTS if variant not in ("pack", "eager")}

    def wanted(job: str) -> bool:
        variant, _, model = job.partition(":")
        return job in only or ((not only or variant in only) and model in few.get(variant, chosen))

    return [job for job in every if wanted(job)]


def _measure(settings: BenchSettings, job: str, left: float, add: OnRow) -> None:
    variant, _, model = job.partition(":")
    if left <= 0:
        add(missing(model, variant, "the time of this run is used up"))
        return
    try:
        with limit(min(_LIMITS.get(variant, _LIMIT), max(left, 1.0))):
            for row in VARIANTS[variant](settings, model):
                add(row)
    except Exception as error:  # noqa: BLE001 - one variant's failure is a row, the others go on
        add(missing(model, variant, error))
