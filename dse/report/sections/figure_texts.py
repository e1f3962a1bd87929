"""Descriptions of figures for readers who do not see them: what is drawn, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.number_format import number
from dse.report.analysis.configs import ALL
from dse.report.analysis.effects import OPTION, Effect
from dse.report.analysis.law_fits import TaskLaw
from dse.report.analysis.tidy import TidyTable, row_dicts
from dse.text import listing, plural

if TYPE_CHECKING:
    import pandas as pd

_MOST = 6


def described_figures(
    table: TidyTable,
    configs: pd.DataFrame,
    effects: Sequence[Effect],
    points: pd.DataFrame,
    laws: Sequence[TaskLaw] = (),
) -> dict[str, str]:
    """By the figures' names."""
    shown = list(dict.fromkeys(points["config"])) if len(points) else []
    return {
        "overall": _pareto(configs),
        "per_task": f"Scatter plots of the gap in the task's metric against overhead: {listing(table.tasks)}.",
        "forest": _forest(effects),
        "curves": f"Training curves on {listing(table.tasks)} of {listing(shown[:_MOST])}, and their differences to "
        f"{table.baseline}.",
        "search": "Gap and overhead of each configuration in the order of asking, and the lowest gap so far.",
        "law": _laws(laws),
    }


def _pareto(configs: pd.DataFrame) -> str:
    if configs.empty:
        return ""
    rows = row_dicts(configs[(configs["task"] == ALL) & configs["narrow"] & configs["lost_mean"].notna()])
    if not rows:
        return "No configuration has a place."
    lost, cost = [100 * row["lost_mean"] for row in rows], [row["overhead"] for row in rows]
    front = sorted((row for row in rows if row["front"]), key=lambda row: row["overhead"])
    members = [f"{row['config']} ({number(row['overhead'])} %)" for row in front[:_MOST]]
    return (
        f"Scatter plot of {plural(len(rows), 'configuration')}: improvement lost, {number(min(lost))} to "
        f"{number(max(lost))} %, against overhead, {number(min(cost))} to {number(max(cost))} %. "
        f"On the front, cheapest first: {'; '.join(members)}."
    )


def _forest(effects: Sequence[Effect]) -> str:
    main = [e for e in effects if e.kind == OPTION and e.scope == ALL and not e.recipe and e.lost.n]
    found = [f"{e.axis} = {e.value} {number(100 * e.lost.mean)}" for e in main[:_MOST]]
    text = "Paired differences with intervals, in points of the improvement lost"
    return text + (f": {', '.join(found)}." if found else ".")


def _laws(laws: Sequence[TaskLaw]) -> str:
    found = [
        f"{one.task}: {own.config} is worth {own.parameters.value:.2f} of the parameters and {own.tokens.value:.2f} of "
        "the tokens"
        for one in laws
        for own in one.recipes[:_MOST]
    ]
    return f"Losses against tokens with the curves of loss laws. {'; '.join(found)}."


__all__ = ["described_figures"]
