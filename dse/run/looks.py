"""What probes saw, as MLflow metrics: a bounded number of series, so that a run's page stays readable and quick."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

POINTS = 1000
"""Most metric values of a run: one call to MLflow, about 0.1 s."""
_LOOKS = 12
"""Looks kept where there are more: the first, the last, and some in between."""
_SUMMARY = ("median", "worst")
_GRADIENT = (("wgrad", "cosine"), ("wgrad", "shrink"), ("dgrad.lhs", "error"))
"""What each layer has a series of; of everything else there are the median and the worst layer."""
_GOOD = {"cosine": 1.0, "qsnr": math.inf}

Point = tuple[str, float, int]
"""Name, value, step."""


def series(rows: Sequence[Sequence[Any]]) -> list[Point]:
    """``probe/median/POINT/QUANTITY`` and ``probe/worst/...`` over the layers, then ``probe/LAYER/POINT/QUANTITY`` of
    the gradients, layer by layer as long as there is room; at most POINTS values.

    >>> series([[0, "a", "wgrad", {"cosine": 0.9}], [0, "b", "wgrad", {"cosine": 0.8}]])[:2]
    [('probe/median/wgrad/cosine', 0.85, 0), ('probe/worst/wgrad/cosine', 0.8, 0)]
    """
    steps = _some(sorted({int(row[0]) for row in rows}))
    by: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for step, layer, point, values in rows:
        if step in steps:
            for name, value in values.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    by.setdefault((point, name), {}).setdefault(int(step), {})[layer] = float(value)
    found = list(_summaries(by))
    for layer in dict.fromkeys(row[1] for row in rows):
        own = [
            (f"probe/{layer}/{point}/{name}", looks[layer], step)
            for point, name in _GRADIENT
            for step, looks in by.get((point, name), {}).items()
            if layer in looks
        ]
        if len(found) + len(own) > POINTS:
            break
        found += own
    return found[:POINTS]


def _summaries(by: dict[tuple[str, str], dict[int, dict[str, float]]]) -> Iterator[Point]:
    for (point, name), looks in by.items():
        good = _GOOD.get(name, 0.0)
        for step, values in looks.items():
            own = list(values.values())
            worst = min(own) if good == math.inf else max(own, key=lambda value: abs(value - good))
            for kind, value in zip(_SUMMARY, (median(own), worst), strict=True):
                yield f"probe/{kind}/{point}/{name}", value, step


def _some(steps: Sequence[int]) -> set[int]:
    """The first, the last, and evenly spaced ones in between."""
    if len(steps) <= _LOOKS:
        return set(steps)
    return {steps[round(i * (len(steps) - 1) / (_LOOKS - 1))] for i in range(_LOOKS)}


__all__ = ["POINTS", "series"]
