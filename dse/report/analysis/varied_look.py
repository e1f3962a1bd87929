"""What colors and markers stand for: the recipe or, where only one is compared with the baseline, the option varied."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dse.report.analysis.tidy import TidyTable

if TYPE_CHECKING:
    import pandas as pd

_MOST = 10
"""Values of an option that colors tell apart."""


def varied_axis(table: TidyTable) -> str:
    """The grid axis with most values (at most ten) of a sweep of one recipe beside the baseline; '' otherwise."""
    if len([recipe for recipe in table.recipes if recipe != table.baseline]) != 1 or table.frame.empty:
        return ""
    known = {axis: len(values) for axis, values in table.axes.items() if axis not in table.ranged}
    fit = {axis: count for axis, count in known.items() if 1 < count <= _MOST}
    return max(fit, key=fit.__getitem__, default="")


def by_varied_option(table: TidyTable, configs: pd.DataFrame) -> tuple[TidyTable, pd.DataFrame]:
    """The table and its aggregates with 'axis = value' in the place of the one recipe; as they are where several are.

    Figures, and the choice of what they show, go by the column ``recipe`` alone.
    """
    axis = varied_axis(table)
    if not axis or configs.empty:
        return table, configs
    frame = table.frame
    looks = frame["recipe"].where(frame["is_baseline"], axis + " = " + frame[axis])
    by = dict(zip(frame["config"], looks, strict=True))
    recipes = [table.baseline, *(f"{axis} = {value}" for value in table.axes[axis])]
    shown = replace(table, frame=frame.assign(recipe=looks), recipes=[name for name in recipes if name in set(looks)])
    return shown, configs.assign(recipe=configs["config"].map(by), named=configs["is_baseline"])


__all__ = ["by_varied_option", "varied_axis"]
