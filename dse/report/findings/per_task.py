"""Finding: the gaps on each task, in the task's own metric."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dse.number_format import SPACE, interval, number, percent
from dse.report.analysis.tidy import TidyTable, row_dicts
from dse.report.findings.finding import Finding
from dse.text import listing

if TYPE_CHECKING:
    import pandas as pd

_FEW = 4


def gaps_per_task(table: TidyTable, configs: pd.DataFrame, chosen: list[str]) -> Finding | None:
    """Gaps of the narrowest recipes, task by task; wider ones are a reference that the tables show."""
    rows = configs[configs["config"].isin(chosen)]
    others = rows[~rows["is_baseline"]]
    if others.empty:
        return None
    bits = max(4, int(others["bits"].min()))
    others = others[others["gap_mean"].notna() & (others["bits"] <= bits)]
    if others.empty:
        return None
    points = [_sentence(table, task, rows, others[others["task"] == task]) for task in table.tasks]
    medians = {task: float(others.loc[others["task"] == task, "lost_mean"].median()) for task in table.tasks}
    known = {task: value for task, value in medians.items() if math.isfinite(value)}
    if len(known) < 2:
        return Finding("In the task's own metric", "Gap to the baseline; lower is better.", points)
    hard, easy = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    what = f"Quantization to {bits} bits after training" if table.after_training else f"{bits}-bit training"
    sentence = (
        f"{what} costs most on {hard} (the median recipe loses {percent(known[hard])} of the improvement) "
        f"and least on {easy} ({percent(known[easy])})."
    )
    return Finding("Task by task", sentence, points)


def _sentence(table: TidyTable, task: str, rows: pd.DataFrame, others: pd.DataFrame) -> str:
    if others.empty:
        return f"{task}: no gap is known."
    ranked = row_dicts(others.sort_values("gap_mean"))
    few = len(ranked) <= _FEW
    picked = ranked if few else [ranked[0], ranked[len(ranked) // 2], ranked[-1]]
    gaps = [f"{r['recipe']}{SPACE}{interval(r['gap_mean'], r['gap_half'], sign=True)}" for r in picked]
    base = rows[rows["is_baseline"] & (rows["task"] == task)]["metric_mean"]
    reached = f" ({table.baseline}: {number(base.iloc[0], 4)})" if len(base) else ""
    least, most = int(others["seeds"].min()), int(others["seeds"].max())
    n = f"n{SPACE}={SPACE}{least}" + (f" to {most}" if most > least else "") + (" seeds" if most > 1 else " seed")
    which = "" if few else "best, middle and worst "
    return f"{task}, held-out {table.metric[task]}{reached}: {which}{listing(gaps)}; {n}."
