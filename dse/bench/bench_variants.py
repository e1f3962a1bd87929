"""Every variant of ``dse bench packs`` by its name, and the models that each is measured on."""

from __future__ import annotations

from dse.bench.bench_jobs import BenchSettings, MakeJobs
from dse.bench.contenders import CONTENDERS
from dse.bench.gallery_packs import gallery, gallery_slow
from dse.bench.growth import growth
from dse.bench.models import GROWTH
from dse.bench.ratios import STEP
from dse.bench.solo_trials import trial

VARIANTS: dict[str, MakeJobs] = CONTENDERS | {
    "growth": growth,
    "gallery_slow": gallery_slow,
    "gallery": gallery,
    "trial": trial,
}
"""In the order of their importance."""

ASKED = ("growth", "gallery_slow", "gallery", "trial")
"""Measured only where they are named: they take minutes."""

ANYWHERE = ("compiled", "plain")
"""Measured on any model that is named."""

TABLES = (
    "fp4:gpt128",
    "autocast:gpt128",
    "compiled_processes:gpt128",
    "compiled:gpt128",
    "growth:lm-60M",
    "growth:lm-30M",
    "compiled:gpt256",
    "fp4:gpt256",
    "autocast:gpt256",
    "plain:gpt128",
    "gallery_slow:gpt128",
    "growth:lm-9M",
    "growth:lm-3M",
    "growth:lm-1M",
    "growth:lm-0.5M",
    "pack:gpt128",
    "bf16:gpt128",
    "pack:mlp",
    "eager:gpt128",
    "gallery:gpt128",
)
"""The measurements behind the tables of docs/performance.md, the most important first."""


def models_of(variant: str, settings: BenchSettings) -> tuple[str, ...] | None:
    """The models that a variant is tried on where none is named; None: all of the pack benchmark."""
    if settings.quick and variant not in ("pack", "eager"):
        return ("lm-0.5M",) if variant == "growth" else ("mlp",)
    few = {
        "processes": settings.crowded,
        "compiled_processes": settings.crowded,
        "peers": settings.compared,
        "compiled": ("gpt128", "gpt256"),
        "plain": ("gpt128", "gpt256"),
        "fp4": tuple(STEP),
        "growth": GROWTH,
        "gallery_slow": ("gpt128",),
        "gallery": ("gpt128",),
        "trial": ("mlp",),
    }
    return few.get(variant)
