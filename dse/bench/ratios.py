"""Ratios of speeds measured in one run, and the target of each: against the best compiled program first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dse.bench.bench_jobs import UNIT
from dse.bench.contenders import FP4, PLAIN
from dse.bench.gallery_packs import GALLERY, WHOLE
from dse.bench.measurements import Measurement
from dse.bench.solo_trials import FIGURE

COMPILED = {"gpt128": 6.0, "gpt256": 6.0}
"""A pack of nvfp4 against the best number of compiled NVFP4 processes, at least."""
AUTOCAST = {"gpt128": 1.15, "gpt256": 1.15}
"""Time of a step of nvfp4 against the same pack under torch.autocast, at most."""
GROWN = {"lm-30M": 1.3, "lm-60M": 1.3}
"""Time of a model-step of nvfp4 in its best pack against one plain compiled BF16 program, at most."""
MEMORY = {"lm-60M": 1.5}
"""Memory of a pack of one under nvfp4 against one plain compiled BF16 program, at most."""
SLOWEST, ALL = 0.6, 0.75
"""The gallery's slowest recipe and a pack of all recipes, each against nvfp4, at least."""
TRIAL = 1.5
"""Processor time of a trial on a CPU, nvfp4 against bf16, at most."""
EAGER = {"mlp": 900.0, "gpt128": 150.0, "gpt256": 60.0, "dit": 50.0, "vit": 50.0, "image_mlp": 50.0}
"""A pack against one eager trial per process, at least."""
CROWD = {"mlp": 100.0, "gpt128": 15.0, "gpt256": 8.0}
"""A pack against the best number of eager processes, at least."""
STEP = {"gpt128": 1.5, "gpt256": 1.5}
"""Time of an emulated step against one of plain BF16, at most."""

RATIO = " ratio"
"""Suffix of a ratio's figure."""
_PACK = re.compile(r"pack of (?P<width>\d+)(, (?P<recipe>\w+))??(?P<activations>, \w+ activations)?")

Rates = Mapping[str, float]


def ratios(rows: Sequence[Measurement], device: str = "cuda", quick: bool = False) -> list[Measurement]:
    """Every ratio that the rows allow, by model, next to its target where that is meant for such a device.

    Targets are a GPU's, that of a trial alone a CPU's; those of a ``quick`` run mean nothing.
    """
    made: list[Measurement] = []
    for figure in dict.fromkeys(row.figure for row in rows if not row.figure.endswith(RATIO)):
        rates = {row.variant: row.value for row in rows if row.figure == figure and row.value}
        if figure.endswith(GALLERY):
            made += _gallery(figure, rates)
        elif figure == FIGURE:
            made += _trial(rates)
        else:
            memory = {row.variant: row.memory for row in rows if row.figure == figure and row.value and row.memory}
            made += [*_compiled(figure, rates), *_grown(figure, rates), *_memory(figure, memory), *_of(figure, rates)]
    kind = "cuda" if device.startswith("cuda") else "cpu"
    meant = {row.figure: "cpu" if row.figure == FIGURE + RATIO else "cuda" for row in made}
    return [row if meant[row.figure] == kind and not quick else replace(row, target=None) for row in made]


def _packs(rates: Rates, recipe: str | None) -> dict[str, float]:
    """The packs of one recipe, or of the mix, with their rates; compared packs come before others."""
    matches = {name: _PACK.fullmatch(name) for name in rates}
    return {name: rates[name] for name, found in matches.items() if found and found["recipe"] == recipe}


def _compiled(model: str, rates: Rates) -> Iterator[Measurement]:
    """Packs of nvfp4 against the fastest way to train it in plain torch."""
    peers = {name: rate for name, rate in rates.items() if name == FP4 or name.endswith("compiled processes")}
    if not peers:
        return
    best = max(peers, key=lambda name: peers[name])
    for name, rate in _packs(rates, "nvfp4").items():
        yield _ratio(model, f"{name} / {best}", rate, peers[best], COMPILED.get(model))


def _grown(model: str, rates: Rates) -> Iterator[Measurement]:
    """The best pack of nvfp4 against a plain program, and the best one of every other recipe against it."""
    packs = _packs(rates, "nvfp4")
    if not packs or PLAIN not in rates:
        return
    best = max(packs, key=lambda name: packs[name])
    yield _longer(model, best, PLAIN, rates, GROWN.get(model))
    others = {found["recipe"] for name in rates if (found := _PACK.fullmatch(name)) and found["recipe"]}
    for recipe in sorted(others - {"nvfp4", "bf16", "autocast"}):
        own = _packs(rates, recipe)
        top = max(own, key=lambda name: own[name])
        yield _ratio(model, f"{top} / nvfp4", own[top], packs[best], SLOWEST if model in GROWN else None)


def _memory(model: str, memory: Rates) -> Iterator[Measurement]:
    """Peak memory of one model under nvfp4, alone, against a plain program's."""
    for name in _packs(memory, "nvfp4"):
        if PLAIN in memory and name.startswith("pack of 1,"):
            own, floor, target = memory[name], memory[PLAIN], MEMORY.get(model)
            variant, note = f"memory of {name} / {PLAIN}", "peak of allocated memory"
            yield Measurement(model + RATIO, variant, own, "GiB", floor, own / floor, note, target, "lower")


def _gallery(figure: str, rates: Rates) -> Iterator[Measurement]:
    own = {name: rate for name, rate in rates.items() if " members" not in name}
    if "nvfp4" in own and len(own) > 1:
        slowest = min(own, key=lambda name: own[name])
        yield _ratio(figure, f"slowest of {len(own)}: {slowest} / nvfp4", own[slowest], own["nvfp4"], SLOWEST)
    for name, rate in rates.items():
        yardstick = name.replace(WHOLE, "nvfp4")
        if name.startswith(WHOLE) and yardstick in rates:
            yield _ratio(figure, f"{name} / nvfp4", rate, rates[yardstick], ALL)


def _trial(rates: Rates) -> Iterator[Measurement]:
    if {"nvfp4", "bf16"} <= rates.keys():
        a, b = rates["nvfp4"], rates["bf16"]
        yield Measurement(FIGURE + RATIO, "nvfp4 / bf16", a, "s", b, a / b, "processor time", TRIAL, "lower")


def _of(model: str, rates: Rates) -> list[Measurement]:
    mixed, fp4 = _packs(rates, None), _packs(rates, "nvfp4")
    made = []
    if mixed:
        first = next(iter(mixed))  # the width that everything else is measured at
        for name in dict.fromkeys([first, max(mixed, key=lambda name: mixed[name])]):
            made += _speed(model, name, mixed[name], rates)
    compared = [name for name in mixed if name.partition(",")[0] == next(iter(mixed)).partition(",")[0]]
    for name in (*compared, *fp4):
        width = name.partition(",")[0]
        if f"{width}, autocast" in rates:
            target = AUTOCAST.get(model) if name in fp4 else None
            made.append(_longer(model, name, f"{width}, autocast", rates, target))
        plain = f"{width}, bf16" + ", bf16 activations" * name.endswith(", bf16 activations")
        if plain in rates:
            made.append(_longer(model, name, plain, rates, STEP.get(model)))
    return made


def _speed(model: str, name: str, rate: float, rates: Rates) -> list[Measurement]:
    crowds = {other: r for other, r in rates.items() if other.endswith("eager processes")}
    made = []
    if "eager" in rates:
        made.append(_ratio(model, f"{name} / eager", rate, rates["eager"], EAGER.get(model)))
    if crowds:
        best = max(crowds, key=lambda other: crowds[other])
        made.append(_ratio(model, f"{name} / {best}", rate, crowds[best], CROWD.get(model)))
    for peer in ("microxcaling", "torchao mxfp4", "torchao mxfp8"):
        if peer in rates:
            made.append(_ratio(model, f"{name} / {peer}", rate, rates[peer], None))
    return made


def _longer(model: str, name: str, floor: str, rates: Rates, target: float | None) -> Measurement:
    """How many times as long a model-step takes as that of ``floor``."""
    width = name.partition(",")[0]
    variant, note = f"{name} / {floor.removeprefix(width + ', ')}", "time of a model-step"
    own, other = 1e3 / rates[name], 1e3 / rates[floor]
    return Measurement(model + RATIO, variant, own, "ms", other, own / other, note, target, "lower")


def _ratio(model: str, variant: str, rate: float, floor: float, target: float | None) -> Measurement:
    return Measurement(model + RATIO, variant, rate, UNIT, floor, rate / floor, "", target)
