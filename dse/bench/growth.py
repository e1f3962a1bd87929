"""Growth: language models of growing size in packs of several widths, beside one plain compiled BF16 program.

Of every row: tokens/s; TFLOP/s of the linears, 6 x their parameters x tokens (head included, attention's products and
quantization not); its share of the rate of one large BF16 product, measured in the same run; memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import torch

from dse.bench.bench_jobs import BenchJob, BenchSettings, named, pack_job
from dse.bench.contenders import compiled_job
from dse.bench.measurements import Measurement
from dse.bench.models import BenchModel, linear_parameters
from dse.bench.rate import pace, tidy

WIDTHS = {
    "lm-0.5M": (1, 16, 64),
    "lm-1M": (1, 16, 64),
    "lm-3M": (1, 4, 16),
    "lm-9M": (1, 4, 16),
    "lm-30M": (1, 4, 8),
    "lm-60M": (1, 2, 4),
}
"""Of the packs of nvfp4, narrow ones first; the other recipes are measured at the first and the last."""

_SIDE, _QUICK_SIDE = 8192, 256


def growth(s: BenchSettings, model: str) -> Iterator[BenchJob]:
    """``plain``, nvfp4 at all widths, then the slowest recipe and bf16, wide packs first."""
    widths = (1, 2) if s.quick else WIDTHS.get(model, (1, 4))
    activations = s.activations[-1]
    yield _detailed(s, model, compiled_job(s, model, fp4=False), 1)
    wanted = [(width, "nvfp4") for width in widths]
    wanted += [(width, recipe) for width in (widths[-1], widths[0]) for recipe in (s.slowest, "bf16")]
    for width, recipe in wanted:
        variant = named(width, recipe, activations)
        yield _detailed(s, model, pack_job(s, model, variant, (width, (recipe,), activations)), width)


def _detailed(s: BenchSettings, model: str, job: BenchJob, width: int) -> BenchJob:
    """The job whose rows say what their rate means for the hardware."""

    def measure() -> list[Measurement]:
        rows = job.measure()
        return [replace(row, facts=_facts(s, s.subject(model), row, width)) for row in rows]

    return replace(job, measure=measure)


def _facts(s: BenchSettings, subject: BenchModel, row: Measurement, width: int) -> dict[str, float]:
    tokens, gemm = (row.value or 0.0) * subject.tokens(), gemm_rate(s.device, s.quick)
    parameters = linear_parameters(subject)
    flops = 6e-12 * parameters * tokens
    facts = {"tokens/s": tokens, "TFLOP/s": flops, "GEMM TFLOP/s": gemm, "of GEMM": flops / gemm}
    facts |= {"width": width, "parameters": parameters}
    return facts if row.memory is None else facts | {"GiB a member": row.memory / width}


@lru_cache(maxsize=1)
def gemm_rate(device: str, quick: bool) -> float:
    """TFLOP/s of a square product in BF16, 8192 on a GPU."""
    side = _QUICK_SIDE if quick or not device.startswith("cuda") else _SIDE
    tidy(device)
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    out = torch.empty_like(a)
    return pace(lambda: torch.mm(a, b, out=out), device, 0.01 if quick else 0.5) * 2 * side**3 / 1e12
