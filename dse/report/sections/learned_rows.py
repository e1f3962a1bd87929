"""The table of tasks that are learned at once or never: shares of seeds, and the steps at which they learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from dse.number_format import UNKNOWN
from dse.report.analysis.learned import LearnedShare
from dse.report.sections.table_rows import TableCell

if TYPE_CHECKING:
    import pandas as pd


def learned_rows(found: Mapping[str, Sequence[LearnedShare]]) -> dict[str, list[tuple[str, list[TableCell]]]]:
    """By task, per configuration: seeds that learn, the share with its interval, the median step and all of them."""
    return {task: [(one.config, _cells(one)) for one in own] for task, own in found.items()}


def learned_frame(found: Mapping[str, Sequence[LearnedShare]]) -> pd.DataFrame:
    """One row per task and configuration, numbers in full."""
    import pandas as pd

    names = ("task", "config", "learned", "seeds", "low", "high")
    rows = [
        {name: getattr(one, name) for name in names} | {"steps": " ".join(map(str, one.steps))}
        for own in found.values()
        for one in own
    ]
    return pd.DataFrame(rows)


def _cells(one: LearnedShare) -> list[TableCell]:
    share = one.learned / one.seeds
    middle = float(median(one.steps)) if one.steps else float("inf")
    return [
        TableCell(f"{one.learned} of {one.seeds}", -share),
        TableCell(f"{share:.2f} ({one.low:.2f} to {one.high:.2f})", -share),
        TableCell(f"{middle:,.0f}" if one.steps else UNKNOWN, middle, title=" ".join(map(str, one.steps))),
    ]


__all__ = ["learned_frame", "learned_rows"]
