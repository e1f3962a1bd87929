"""What the looks into a trial show, as sentences: where it was worst at the last look, and what has changed since the
first. They tell what was seen, not what caused it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from dse.report.format import SPACE, number
from dse.report.probed.probe_frame import MEASURES, Measure, select, worst_layer
from dse.report.probed.scene import ProbedTrial, Scene
from dse.report.probed.subjects import BASELINE, BEST

if TYPE_CHECKING:
    import pandas as pd

_LEAST = 1e-3
"""Changes of a share or an error below this are not spoken of."""
_GREW = 1.5
_BIAS = 0.05
_SHRINK = next(m for m in MEASURES if m.quantity == "shrink")


class Extreme(NamedTuple):
    """The worst layer of a measure at the last look, and the same layer elsewhere."""

    measure: Measure
    layer: str
    last: float
    first: float
    median: float


def story(scene: Scene) -> list[str]:
    """At most five sentences about the scene's suspect."""
    suspect, other = scene.suspect, scene.of(BEST) or scene.of(BASELINE)
    if suspect.looks.empty:
        return []
    first, last = int(suspect.looks["step"].min()), int(suspect.looks["step"].max())
    found = {(m.point, m.quantity): e for m in MEASURES if (e := _extreme(suspect, m))}
    lines = [_opening(scene, last)]
    gradient, cosine = found.get(("wgrad", "error")), found.get(("wgrad", "cosine"))
    if gradient:
        line = f"The weight gradient is worst in {gradient.layer}: relative error {number(gradient.last)}"
        line += f" (the median layer: {number(gradient.median)})"
        line += (
            f", cosine to the exact one {number(_at(suspect, cosine.measure, gradient.layer, last))}" if cosine else ""
        )
        elsewhere = _at(other, gradient.measure, gradient.layer, last) if other else math.nan
        line += f"; {other.config} has {number(elsewhere)} there" if other and math.isfinite(elsewhere) else ""
        lines.append(line + ".")
    lines += _bias(suspect, other)
    steady = [e for e in found.values() if e.measure.quantity != "bias"]  # whose sign changes from look to look
    grown = [e for e in steady if _growth(e) >= _GREW and abs(e.last - e.measure.good) > _LEAST]
    if grown and last > first:
        most = max(grown, key=_growth)
        name = most.measure.name
        lines.append(
            f"What moved most from the first to the last look (steps {first:,} to {last:,}): {name} in {most.layer}, "
            f"from {_shown(most.measure, most.first)} to {_shown(most.measure, most.last)}."
        )
    elif last > first:
        lines.append(f"No quantity grew by half or more in its worst layer between steps {first:,} and {last:,}.")
    lost = [
        e for key in (("dgrad.lhs", "flushed"), ("fprop.lhs", "saturated")) if (e := found.get(key)) and e.last > _LEAST
    ]
    if lost:
        parts = [f"{e.measure.name} is {_percent(e.last)} in {e.layer}" for e in lost]
        lines.append(f"At the last look {' and '.join(parts)}.")
    return lines


def _opening(scene: Scene, last: int) -> str:
    suspect = scene.suspect
    if suspect.ended is not None:
        why = f": {suspect.where}" if suspect.where else ""
        fate = f"diverged at step {suspect.ended:,}{why}. {suspect.besides}"
        return f"{suspect.config}, seed {suspect.seed}, {fate} Last look: step {last:,}."
    sign = "+" if suspect.gap > 0 else ""
    best = scene.of(BEST)
    than = f", {best.config} {'+' if best.gap > 0 else ''}{number(best.gap)}" if best else ""
    largest = f"has the largest gap ({sign}{number(suspect.gap)}{than})"
    return f"{suspect.config}, seed {suspect.seed}, {largest}. Last look: step {last:,}."


def _bias(suspect: ProbedTrial, other: ProbedTrial | None) -> list[str]:
    """Whether dW is systematically too long or too short, in the median layer at the last look."""
    own, theirs = (_middle(one) if one else math.nan for one in (suspect, other))
    if not abs(own) >= _BIAS:
        return []
    than = f" ({other.config}: {_percent(theirs)})" if other and math.isfinite(theirs) else ""
    length = f"{_percent(abs(own))} too {'long' if own > 0 else 'short'}"
    return [f"In the median layer, dW is {length} along the exact one{than}."]


def _middle(subject: ProbedTrial) -> float:
    values = select(subject.looks, _SHRINK)
    return math.nan if values.empty else float(values.iloc[-1].median())


def _extreme(subject: ProbedTrial, measure: Measure) -> Extreme | None:
    values = select(subject.looks, measure)
    layer = worst_layer(values, measure)
    if layer is None:
        return None
    own: pd.Series[float] = values[layer].dropna()
    return Extreme(measure, layer, float(own.iloc[-1]), float(own.iloc[0]), float(values.iloc[-1].median()))


def _at(subject: ProbedTrial, measure: Measure, layer: str, step: int) -> float:
    """The value in a layer at the last look that is not later."""
    values = select(subject.looks, measure)
    if layer not in values:
        return math.nan
    own: pd.Series[float] = values.loc[values.index <= step, layer].dropna()
    return float(own.iloc[-1]) if len(own) else math.nan


def _growth(e: Extreme) -> float:
    """How many times as far from good as at the first look; changes too small to matter count as none."""
    floor = 0.02 if e.measure.share else 0.01
    return (abs(e.last - e.measure.good) + floor) / (abs(e.first - e.measure.good) + floor)


def _shown(measure: Measure, value: float) -> str:
    return _percent(value) if measure.share else number(value)


def _percent(share: float) -> str:
    return f"{number(100 * share)}{SPACE}%"


__all__ = ["story"]
