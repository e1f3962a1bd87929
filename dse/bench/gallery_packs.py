"""The gallery: every recipe's own pack, and one pack of all recipes, against packs of nvfp4 of the same width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from dse.bench.bench_jobs import BenchJob, BenchSettings, pack_job
from dse.bench.measurements import Measurement
from dse.recipes import RECIPES

GALLERY = " gallery"
"""Suffix of the rows' figure."""
WHOLE = "whole gallery"
_SEEDS = 2
_SLOW = (
    "nvfp4",
    "quartet2_sr",
    "tetrajet2",
    "if4",
    "tetrajet2_base",
    "wang_fp4",
    "quartet",
    "full_stack_attention",
    "four_over_six",
    "nvfp4_4over6",
    "tetrajet_q_ramping",
    "tetrajet_q_ema",
    "zhou_modulewise",
    "ufp4",
    "graphcore_ue5m3",
    "fp32",
)
"""The yardstick, then the recipes that were slowest without kernels of their own, and products in FP32."""


def gallery(s: BenchSettings, model: str) -> Iterator[BenchJob]:
    """The pack of all recipes and its yardstick, then the packs of one recipe each."""
    names, activations = recipes(s.quick), s.activations[0]
    width = _SEEDS * len(names)
    yield _job(s, model, f"{WHOLE}, {width} members", (width, names, activations))
    yield _job(s, model, f"nvfp4, {width} members", (width, ("nvfp4",), activations))
    for name in names:
        yield _job(s, model, name, (s.width, (name,), activations))


def gallery_slow(s: BenchSettings, model: str) -> Iterator[BenchJob]:
    """The first of ``gallery``: the pack of all recipes, and the slowest recipes."""
    return islice(gallery(s, model), 2 + len(_SLOW))


def recipes(quick: bool = False) -> tuple[str, ...]:
    """Every recipe, the slowest first; some for a smoke test."""
    return _SLOW[:3] if quick else tuple(dict.fromkeys((*_SLOW, *RECIPES)))


def _job(s: BenchSettings, model: str, variant: str, pack: tuple[int, tuple[str, ...], str]) -> BenchJob:
    plain = pack_job(s, model, variant, pack)

    def measure() -> list[Measurement]:
        return [replace(row, figure=model + GALLERY) for row in plain.measure()]

    return replace(plain, figure=model + GALLERY, measure=measure)
