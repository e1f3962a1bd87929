"""Rows of the search section's tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dse.report.analysis.importance import Share
from dse.report.analysis.searches import AskedConfiguration, Hunt
from dse.report.analysis.tidy import dicts
from dse.report.format import SPACE, UNKNOWN, interval, number, p_value, percent
from dse.report.sections.table_rows import TableCell, count, last

if TYPE_CHECKING:
    import pandas as pd


def found(hunt: Hunt, configs: pd.DataFrame) -> list[tuple[AskedConfiguration, str, str, str]]:
    """The front that a search has found: the choice, its overhead, its gap with the interval over seeds, and its
    place in the order of asking."""
    task = str(hunt.choices[0].assignment["task"]) if hunt.choices else ""
    known = {row["config"]: row for row in dicts(configs[configs["task"] == task])} if len(configs) else {}
    rows = []
    for choice in hunt.found:
        row = known.get(choice.config)
        gap = interval(row["gap_mean"], row["gap_half"], sign=True) if row else number(choice.gap)
        rows.append((choice, number(choice.overhead), gap, str(choice.number)))
    return rows


def shares(hunt: Hunt) -> list[tuple[Share, list[TableCell]]]:
    """Which axes mattered: share of the variance, Spearman's rho, adjusted p, configurations."""
    rows = []
    for one in hunt.shares:
        p = p_value(one.p_holm).removeprefix(f"p{SPACE}").removeprefix(f"={SPACE}")
        rho = number(one.rho, 2)
        cells = [
            TableCell(percent(one.share), last(-one.share), round(one.share, 3) if math.isfinite(one.share) else 0.0),
            TableCell(rho if rho == UNKNOWN or one.rho < 0 else f"+{rho}", last(one.rho)),
            TableCell(p, last(one.p_holm)),
            count(one.groups),
            count(one.n),
        ]
        rows.append((one, cells))
    return rows
