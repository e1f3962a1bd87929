"""Rows of the search section's tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dse.number_format import SPACE, UNKNOWN, interval, number, p_value, percent
from dse.report.analysis.importance import AxisImportance
from dse.report.analysis.searches import AskedConfiguration, SearchHistory
from dse.report.analysis.tidy import row_dicts
from dse.report.sections.table_rows import TableCell, count_cell, sort_key

if TYPE_CHECKING:
    import pandas as pd


def front_rows(history: SearchHistory, configs: pd.DataFrame) -> list[tuple[AskedConfiguration, str, str, str]]:
    """Rows of a search's Pareto front: configuration, overhead, gap with its interval, place in the order of asking."""
    task = str(history.configurations[0].assignment["task"]) if history.configurations else ""
    known = {row["config"]: row for row in row_dicts(configs[configs["task"] == task])} if len(configs) else {}
    rows = []
    for choice in history.front:
        row = known.get(choice.config)
        gap = interval(row["gap_mean"], row["gap_half"], sign=True) if row else number(choice.gap)
        rows.append((choice, number(choice.overhead), gap, str(choice.number)))
    return rows


def importance_rows(history: SearchHistory) -> list[tuple[AxisImportance, list[TableCell]]]:
    """Rows of the importance of axes: share of the variance, Spearman's rho, adjusted p, groups, configurations."""
    rows = []
    for one in history.importances:
        p = p_value(one.p_holm).removeprefix(f"p{SPACE}").removeprefix(f"={SPACE}")
        rho = number(one.rho, 2)
        cells = [
            TableCell(
                percent(one.share), sort_key(-one.share), round(one.share, 3) if math.isfinite(one.share) else 0.0
            ),
            TableCell(rho if rho == UNKNOWN or one.rho < 0 else f"+{rho}", sort_key(one.rho)),
            TableCell(p, sort_key(one.p_holm)),
            count_cell(one.groups),
            count_cell(one.n),
        ]
        rows.append((one, cells))
    return rows
