"""Ratios of speeds measured in one run, and the target of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dse.bench.measurements import Measurement

EAGER = {"mlp": 900.0, "gpt128": 150.0, "gpt256": 60.0, "dit": 50.0, "vit": 50.0, "image_mlp": 50.0}
"""A pack against one eager trial per process, at least."""
CROWD = {"mlp": 100.0, "gpt128": 15.0, "gpt256": 8.0}
"""A pack against the best number of eager processes, at least."""
STEP = {"gpt128": 1.5, "gpt256": 1.5}
"""Time of an emulated step against one of plain BF16, at most."""

RATIO = " ratio"
"""Suffix of a ratio's figure."""
_MIXED = re.compile(r"pack of (\d+)")


def ratios(rows: Sequence[Measurement], judged: bool = True) -> list[Measurement]:
    """Every ratio that the rows of model-steps per second allow, by model; ``judged``: next to its target."""
    made: list[Measurement] = []
    for model in dict.fromkeys(row.figure for row in rows if not row.figure.endswith(RATIO)):
        rates = {row.variant: row.value for row in rows if row.figure == model and row.value}
        made += _of(model, rates)
    return made if judged else [replace(row, target=None) for row in made]


def _of(model: str, rates: Mapping[str, float]) -> list[Measurement]:
    mixed = {name: rate for name, rate in rates.items() if _MIXED.fullmatch(name)}
    if not mixed:
        return []
    first = next(iter(mixed))  # the width that everything else is measured at
    best = max(mixed, key=lambda name: mixed[name])
    made = []
    for name in dict.fromkeys([first, best]):
        made += _speed(model, name, mixed[name], rates)
    for name in (first, f"{first}, nvfp4"):
        for plain in ("bf16", "autocast"):
            made += _step(model, name, f"{first}, {plain}", rates)
    return made


def _speed(model: str, name: str, rate: float, rates: Mapping[str, float]) -> list[Measurement]:
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


def _step(model: str, name: str, plain: str, rates: Mapping[str, float]) -> list[Measurement]:
    if name not in rates or plain not in rates:
        return []
    ratio, target = rates[plain] / rates[name], STEP.get(model)
    variant, note = f"{name} / {plain.partition(', ')[2]}", "time of a model-step"
    return [
        Measurement(model + RATIO, variant, 1e3 / rates[name], "ms", 1e3 / rates[plain], ratio, note, target, "lower")
    ]


def _ratio(model: str, variant: str, rate: float, floor: float, target: float | None) -> Measurement:
    return Measurement(model + RATIO, variant, rate, "model-steps/s", floor, rate / floor, "", target)
