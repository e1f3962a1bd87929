"""Sentences about a probed trial: its worst layers at the last measurement, and what changed since the first.

They describe what was measured, not its cause.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from dse.number_format import SPACE, number
from dse.report.probe_summary.probe_frame import MEASURES, Measure, pivot_layers, worst_layer
from dse.report.probe_summary.probed_task import ProbedTask, ProbedTrial
from dse.report.probe_summary.selection import BASELINE, BEST

if TYPE_CHECKING:
    import pandas as pd

_LEAST = 1e-3
"""Changes of a share or an error below this are not mentioned."""
_GREW = 1.5
"""Growth of a quantity from which on it is mentioned."""
_BIAS = 0.05
"""Bias of dW from which on it is mentioned."""
_SHRINK = next(m for m in MEASURES if m.quantity == "shrink")


class WorstLayer(NamedTuple):
    """The worst layer of a measure at the last measurement, with its values and the median over layers."""

    measure: Measure
    layer: str
    last: float
    first: float
    median: float


def probe_sentences(task: ProbedTask) -> list[str]:
    """At most five sentences about the task's focus."""
    focus, other = task.focus, task.of(BEST) or task.of(BASELINE)
    if focus.series.empty:
        return []
    first, last = int(focus.series["step"].min()), int(focus.series["step"].max())
    found = {(m.point, m.quantity): e for m in MEASURES if (e := _worst_layer(focus, m))}
    lines = [_opening(task, last)]
    gradient, cosine = found.get(("wgrad", "error")), found.get(("wgrad", "cosine"))
    if gradient:
        line = f"The weight gradient is worst in {gradient.layer}: relative error {number(gradient.last)}"
        line += f" (the median layer: {number(gradient.median)})"
        line += (
            f", cosine to the exact one {number(_at(focus, cosine.measure, gradient.layer, last))}" if cosine else ""
        )
        elsewhere = _at(other, gradient.measure, gradient.layer, last) if other else math.nan
        line += f"; {other.config} has {number(elsewhere)} there" if other and math.isfinite(elsewhere) else ""
        lines.append(line + ".")
    lines += _bias(focus, other)
    steady = [
        e for e in found.values() if e.measure.quantity != "bias"
    ]  # the sign of a bias changes from one measurement to the next
    grown = [e for e in steady if _growth(e) >= _GREW and abs(e.last - e.measure.ideal) > _LEAST]
    if grown and last > first:
        most = max(grown, key=_growth)
        name = most.measure.name
        lines.append(
            f"What moved most from the first to the last look (steps {first:,} to {last:,}): {name} in {most.layer}, "
            f"from {_value_text(most.measure, most.first)} to {_value_text(most.measure, most.last)}."
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


def _opening(task: ProbedTask, last: int) -> str:
    focus = task.focus
    if focus.diverged_at is not None:
        why = f": {focus.where}" if focus.where else ""
        fate = f"diverged at step {focus.diverged_at:,}{why}. {focus.baseline_outcome}"
        return f"{focus.config}, seed {focus.seed}, {fate} Last look: step {last:,}."
    sign = "+" if focus.gap > 0 else ""
    best = task.of(BEST)
    than = f", {best.config} {'+' if best.gap > 0 else ''}{number(best.gap)}" if best else ""
    largest = f"has the largest gap ({sign}{number(focus.gap)}{than})"
    return f"{focus.config}, seed {focus.seed}, {largest}. Last look: step {last:,}."


def _bias(focus: ProbedTrial, other: ProbedTrial | None) -> list[str]:
    """Whether dW is systematically too long or too short, in the median layer at the last measurement."""
    own, theirs = (_middle(one) if one else math.nan for one in (focus, other))
    if not abs(own) >= _BIAS:
        return []
    than = f" ({other.config}: {_percent(theirs)})" if other and math.isfinite(theirs) else ""
    length = f"{_percent(abs(own))} too {'long' if own > 0 else 'short'}"
    return [f"In the median layer, dW is {length} along the exact one{than}."]


def _middle(trial: ProbedTrial) -> float:
    values = pivot_layers(trial.series, _SHRINK)
    return math.nan if values.empty else float(values.iloc[-1].median())


def _worst_layer(trial: ProbedTrial, measure: Measure) -> WorstLayer | None:
    values = pivot_layers(trial.series, measure)
    layer = worst_layer(values, measure)
    if layer is None:
        return None
    own: pd.Series[float] = values[layer].dropna()
    return WorstLayer(measure, layer, float(own.iloc[-1]), float(own.iloc[0]), float(values.iloc[-1].median()))


def _at(trial: ProbedTrial, measure: Measure, layer: str, step: int) -> float:
    """The value in a layer at the last measurement up to ``step``."""
    values = pivot_layers(trial.series, measure)
    if layer not in values:
        return math.nan
    own: pd.Series[float] = values.loc[values.index <= step, layer].dropna()
    return float(own.iloc[-1]) if len(own) else math.nan


def _growth(e: WorstLayer) -> float:
    """Distance from the ideal value, relative to the first measurement; very small distances count as equal."""
    floor = 0.02 if e.measure.share else 0.01
    return (abs(e.last - e.measure.ideal) + floor) / (abs(e.first - e.measure.ideal) + floor)


def _value_text(measure: Measure, value: float) -> str:
    return _percent(value) if measure.share else number(value)


def _percent(share: float) -> str:
    return f"{number(100 * share)}{SPACE}%"


__all__ = ["probe_sentences"]
