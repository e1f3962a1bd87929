"""Probe measurements as MLflow metrics: a bounded number of series, so that a run's page stays readable and quick."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

POINTS = 600
"""Most metric values of a run: about 0.1 s and 200 kB of MLflow's database."""
_LOOKS = 12
"""Looks kept where there are more: the first, the last, and some in between."""
_SUMMARY = ("median", "worst")
_OPERANDS = tuple((point, "error") for point in ("fprop.lhs", "fprop.rhs", "dgrad.lhs"))
_LOSSES = (("dgrad.lhs", "flushed"), ("fprop.lhs", "saturated"), ("fprop.rhs", "changed"))
_GRADIENTS = tuple(("wgrad", name) for name in ("error", "cosine", "shrink", "bias"))
_SHOWN = (*_OPERANDS, *_LOSSES, *_GRADIENTS)
"""What there are series of: over the layers their median and the worst."""
_EVERYWHERE = (("wgrad", "cosine"), ("dgrad.lhs", "error"))
"""What each layer has a series of."""
_GOOD = {"cosine": 1.0}

SeriesPoint = tuple[str, float, int]
"""Name, value, step."""


def series(rows: Sequence[Sequence[Any]]) -> list[SeriesPoint]:
    """``probe/POINT/QUANTITY/median`` and ``.../worst`` over the layers, then ``.../LAYER`` of two quantities, layer by
    layer as long as there is room; at most POINTS values. MLflow's page has a section for what stands before the last
    slash, so the layers of a quantity stand side by side.

    >>> series([[0, "a", "wgrad", {"cosine": 0.75}], [0, "b", "wgrad", {"cosine": 0.5}]])[:2]
    [('probe/wgrad/cosine/median', 0.625, 0), ('probe/wgrad/cosine/worst', 0.5, 0)]
    """
    steps = _some(sorted({int(row[0]) for row in rows}))
    by: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for step, layer, point, values in rows:
        if step in steps:
            for name, value in values.items():
                if (point, name) in _SHOWN and value is not None and math.isfinite(value):
                    by.setdefault((point, name), {}).setdefault(int(step), {})[layer] = float(value)
    found = list(_summaries(by))
    for layer in dict.fromkeys(row[1] for row in rows):
        own = [
            (f"probe/{point}/{name}/{layer}", looks[layer], step)
            for point, name in _EVERYWHERE
            for step, looks in by.get((point, name), {}).items()
            if layer in looks
        ]
        if len(found) + len(own) > POINTS:
            break
        found += own
    return found[:POINTS]


def _summaries(by: dict[tuple[str, str], dict[int, dict[str, float]]]) -> Iterator[SeriesPoint]:
    for (point, name), looks in by.items():
        good = _GOOD.get(name, 0.0)
        for step, values in looks.items():
            own = list(values.values())
            worst = max(own, key=lambda value: abs(value - good))
            for kind, value in zip(_SUMMARY, (median(own), worst), strict=True):
                yield f"probe/{point}/{name}/{kind}", value, step


def _some(steps: Sequence[int]) -> set[int]:
    """The first, the last, and evenly spaced ones in between."""
    if len(steps) <= _LOOKS:
        return set(steps)
    return {steps[round(i * (len(steps) - 1) / (_LOOKS - 1))] for i in range(_LOOKS)}


__all__ = ["POINTS", "series"]
