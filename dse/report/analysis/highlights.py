"""Which configurations the overview, the curves and the findings speak of, and what the figures call them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dse.report.analysis.configs import ALL
from dse.report.analysis.tidy import TidyTable
from dse.results.record import STOPPED

if TYPE_CHECKING:
    import pandas as pd

LIMIT = 12


def highlights(table: TidyTable, configs: pd.DataFrame) -> list[str]:
    """Each recipe without overrides or, where it was only run with some, its best configuration over all tasks
    (one without stopped seeds, if there is any).

    The baseline's first, then as the sweep names them; at most LIMIT.
    """
    if configs.empty:
        return []
    overall = configs[configs["task"] == ALL]
    chosen = []
    for recipe in table.recipes:
        mine = overall[overall["recipe"] == recipe]
        rows = mine.assign(partly=mine[STOPPED] > 0).sort_values(
            ["named", "partly", "lost_mean"], ascending=[False, True, True]
        )
        if len(rows):
            chosen.append(str(rows["config"].iloc[0]))
    return chosen[:LIMIT]


def marks(configs: pd.DataFrame) -> dict[str, str]:
    """Numbers, cheapest first, for configurations with overrides on the front over all tasks: too long to write out."""
    if configs.empty:
        return {}
    front = configs[(configs["task"] == ALL) & configs["front"] & ~configs["named"]].sort_values("overhead")
    return {str(config): str(i + 1) for i, config in enumerate(front["config"])}
