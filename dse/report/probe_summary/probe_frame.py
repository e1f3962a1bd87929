"""Probe measurements as a long data frame, and the quantities that reports show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from dse.report.probe_summary.probed_task import ProbedTask

COLUMNS = ["step", "layer", "point", "quantity", "value"]

Histograms = dict[tuple[int, str, str], dict[str, int]]


@dataclass(frozen=True)
class Measure:
    """A quantity measured at a quantization point.

    ``name``: in a sentence; ``title``: of its panel; ``share``: whether it is shown in percent; ``ideal``: the best
    value, and a value is worse the farther it is from it.
    """

    point: str
    quantity: str
    name: str
    title: str
    share: bool = False
    ideal: float = 0.0


MEASURES = (
    Measure("fprop.lhs", "error", "the relative error of X", "relative error of X"),
    Measure("fprop.rhs", "error", "the relative error of W", "relative error of W"),
    Measure("dgrad.lhs", "error", "the relative error of G", "relative error of G"),
    Measure("wgrad", "error", "the relative error of dW", "relative error of dW"),
    Measure("dgrad.lhs", "flushed", "the share of G that is flushed to zero", "G: flushed to zero, %", share=True),
    Measure("fprop.lhs", "saturated", "the share of X that saturates", "X: saturated, %", share=True),
    Measure("wgrad", "cosine", "the cosine of dW to the exact one", "dW: cosine to the exact one", ideal=1.0),
    Measure("wgrad", "shrink", "the bias of dW along itself", "dW: bias along itself, %", share=True),
    Measure("wgrad", "bias", "the bias of the elements of dW", "dW: mean bias, % of mean |dW|", share=True),
    Measure(
        "fprop.rhs", "changed", "the share of W's codes that changed", "W: codes changed since last look, %", share=True
    ),
)
"""The quantities that are drawn, in the order of the panels."""


def probe_frame(rows: Iterable[Sequence[Any]]) -> tuple[pd.DataFrame, Histograms]:
    """The numbers of probe rows (``dse.probes.ProbeRow``) as COLUMNS, and their scale histograms.

    Where a tensor is all zero (before the first step the gradients of many layers are) its relative error is undefined,
    and all shares are set to NaN.
    """
    import pandas as pd

    table: list[list[Any]] = []
    histograms: Histograms = {}
    for step, layer, point, values in rows:
        empty = "error" in values and values["error"] is None
        for name, value in values.items():
            if name == "scales":
                histograms[int(step), layer, point] = value
            else:
                unknown = value is None or (empty and name != "changed")
                table.append([int(step), layer, point, name, math.nan if unknown else float(value)])
    return pd.DataFrame(table, columns=COLUMNS), histograms


def shown_probe_frame(found: Iterable[ProbedTask]) -> pd.DataFrame:
    """The measurements that the figures show, of all shown trials; without the histograms."""
    import pandas as pd

    drawn = {(m.point, m.quantity) for m in MEASURES}
    parts = [
        one.series[[pair in drawn for pair in zip(one.series["point"], one.series["quantity"], strict=True)]].assign(
            task=task.task, role=one.role, config=one.config, recipe=one.recipe, seed=one.seed
        )
        for task in found
        for one in task.trials
    ]
    names = ["task", "role", "config", "recipe", "seed", *COLUMNS]
    return pd.concat(parts)[names] if parts else pd.DataFrame(columns=names)


def pivot_layers(series: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """The values of one measure, a row per step and a column per layer in the order of the model; finite ones only."""
    mine = series[
        (series["point"] == measure.point) & (series["quantity"] == measure.quantity) & series["value"].notna()
    ]
    order = list(dict.fromkeys(mine["layer"]))
    return mine.pivot_table(index="step", columns="layer", values="value", sort=False)[order].sort_index()


def worst_layer(values: pd.DataFrame, measure: Measure) -> str | None:
    """The layer that is farthest from the ideal value at the last measurement."""
    if values.empty:
        return None
    last = (values.iloc[-1] - measure.ideal).abs().dropna()
    return str(last.idxmax()) if len(last) else None
