"""Rows of the page's tables, with text to show and values to sort by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from dse.number_format import SPACE, UNKNOWN, interval, number, p_value, percent, probability
from dse.report.analysis.configs import ALL, STATUSES, baselines_apart
from dse.report.analysis.effects import VERSUS, Effect, recipe_pairs
from dse.report.analysis.front_draws import FrontDraws
from dse.report.analysis.tidy import TidyTable, row_dicts
from dse.results.record import OK

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 600
"""Rows over all of a page's tables of configurations; the CSV file has all."""
MATRIX = 16
"""Recipes of the table of recipe against recipe; the CSV file has all."""
_EXTRAS = 2
_SHORT = {
    "diverged": "diverged",
    "failed": "failed",
    "stopped": "stopped",
    "not run": "not run",
    "baseline": "no baseline",
    "not part": "–",
}
"""How a reason for a missing gap begins -> what a table cell says."""


@dataclass(frozen=True)
class TableCell:
    """A table cell: text, value to sort by (unknown last), color strength 0 to 1, tooltip."""

    text: str
    value: float = math.inf
    tint: float = 0.0
    title: str = ""


@dataclass(frozen=True)
class TableRow:
    """A table row: a configuration, the marks it bears, its cells; ``number``: its place in the page's details."""

    recipe: str
    overrides: str
    front: bool
    baseline: bool
    cells: list[TableCell]
    note: str = ""
    number: int = -1


def overview_rows(table: TidyTable, configs: pd.DataFrame, chosen: Sequence[str]) -> list[TableRow]:
    """Highlighted configurations by all tasks and each task: share of the improvement lost."""
    if configs.empty:
        return []
    scopes = [ALL, *table.tasks] if len(table.tasks) > 1 else table.tasks
    by = {(row["task"], row["config"]): row for row in row_dicts(configs)}
    rows = []
    for config in chosen:
        head = by[ALL, config]
        lost = [_lost_cell(by.get((scope, config)), tint=True) for scope in scopes]
        cells = [*_costs(head), *lost]
        rows.append(_row(head, cells))
    return baselines_apart(rows, lambda row: row.cells[3].value)


@dataclass(frozen=True)
class FrontRow:
    """A configuration on the front over all tasks; ``mark`` is what the figures call it."""

    mark: str
    recipe: str
    overrides: str
    overhead: str
    lost: str
    probability: str
    knee: bool


def front_rows(configs: pd.DataFrame, marks: dict[str, str], draws: FrontDraws | None) -> list[FrontRow]:
    """The front over all tasks, cheapest first; those with overrides bear numbers."""
    if configs.empty:
        return []
    rows = configs[(configs["task"] == ALL) & configs["front"]].sort_values("overhead")
    return [
        FrontRow(
            mark=marks.get(r["config"], ""),
            recipe=r["recipe"],
            overrides=r["config"].removeprefix(r["recipe"]).strip(),
            overhead=number(r["overhead"]),
            lost=percent(r["lost_mean"], r["lost_half"]),
            probability=probability(draws.probability[r["config"]] if draws else math.nan),
            knee=bool(draws and draws.knee == r["config"]),
        )
        for r in row_dicts(rows)
    ]


def extra_metrics(configs: pd.DataFrame, task: str, primary: str) -> list[str]:
    """Names of a task's held-out metrics that are shown beside the primary one: at most two."""
    rows = configs[configs["task"] == task]
    names = [str(c) for c in configs if str(c).startswith("metrics.") and rows[c].notna().any()]
    return [name.removeprefix("metrics.") for name in names if name != f"metrics.{primary}"][:_EXTRAS]


def has_bf16_metrics(configs: pd.DataFrame, task: str) -> bool:
    """Whether a task's weights were evaluated in BF16 arithmetic too."""
    return bool(configs.loc[configs["task"] == task, "gap_bf16_mean"].notna().any())


def config_rows(configs: pd.DataFrame, task: str, shown: Sequence[str], others: Sequence[str] = ()) -> list[TableRow]:
    """Every configuration of a task, least lost first; columns as in the page's table. ``others``: baselines beside
    the first."""
    rows, twice = [], has_bf16_metrics(configs, task)
    for row in row_dicts(configs[configs["task"] == task]):
        cells = [
            _lost_cell(row),
            _gap(row, "gap_mean", "gap_half"),
            *(_gap(row, f"gap_mean[{name}]", f"gap_half[{name}]") for name in others),
            *([_gap(row, "gap_bf16_mean", "gap_bf16_half")] if twice else []),
            TableCell(interval(row["metric_mean"], row["metric_sd"]), sort_key(row["metric_mean"])),
            *(_number(row[f"metrics.{name}"]) for name in shown),
            *_costs(row),
            count_cell(row["seeds"]),
            TableCell(", ".join(f"{row[s]} {s}" for s in STATUSES if row[s]), sum(row[s] for s in STATUSES if s != OK)),
        ]
        rows.append(_row(row, cells))
    return baselines_apart(rows, lambda row: (row.cells[0].value, row.cells[1].value))


def effect_rows(found: Sequence[Effect]) -> list[tuple[Effect, list[TableCell]]]:
    """Every effect but those between two recipes: lost, gap, pairs, better, diverged, adjusted p."""
    rows = []
    for e in found:
        if e.kind == VERSUS:
            continue
        gap = (
            TableCell(interval(e.gap.mean, e.gap.half, sign=True), sort_key(e.gap.mean))
            if e.gap
            else TableCell(UNKNOWN)
        )
        lost = TableCell(interval(e.lost.mean, e.lost.half, scale=100, limit=2, sign=True), sort_key(e.lost.mean))
        diverged = (
            f"{e.only_value_diverged} / {e.only_reference_diverged}"
            if e.only_value_diverged or e.only_reference_diverged
            else "0"
        )
        cells = [
            lost,
            _across(e),
            gap,
            TableCell(f"{e.better} of {e.pairs}", e.better / e.pairs if e.pairs else math.inf),
            count_cell(e.lost.n),
            TableCell(diverged, e.only_value_diverged - e.only_reference_diverged),
            TableCell(p_value(e.p_holm).removeprefix(f"p{SPACE}").removeprefix(f"={SPACE}"), sort_key(e.p_holm)),
        ]
        rows.append((e, cells))
    return rows


def recipe_matrix(found: Sequence[Effect], recipes: Sequence[str]) -> list[tuple[str, list[TableCell | None]]]:
    """Row recipe minus column recipe over all tasks; None on the diagonal. Empty where there are no such pairs.

    Of more than MATRIX recipes those that lose least, in the order of ``recipes``.
    """
    pairs = {key: effect for key, effect in recipe_pairs(list(found)).items() if math.isfinite(effect.lost.mean)}
    lost: dict[str, list[float]] = {}
    for (name, _), known in pairs.items():
        lost.setdefault(name, []).append(known.lost.mean)
    least = set(sorted(lost, key=lambda name: fmean(lost[name]))[:MATRIX])
    names = [r for r in recipes if r in least]
    rows: list[tuple[str, list[TableCell | None]]] = []
    for name in names:
        cells: list[TableCell | None] = []
        for other in names:
            effect = pairs.get((name, other))
            if name == other:
                cells.append(None)
            elif effect is None:
                cells.append(TableCell(UNKNOWN, title="not known on every task"))
            else:
                shown = interval(effect.lost.mean, effect.lost.half, scale=100, limit=2, sign=True)
                sure = 1.0 if effect.p_holm < 0.05 else 0.0
                holm = f"Holm{SPACE}{p_value(effect.p_holm)}"
                title = f"{name} loses less in {effect.better} of {effect.pairs} pairs; {holm}"
                cells.append(TableCell(shown, tint=math.copysign(sure, effect.lost.mean), title=title))
        rows.append((name, cells))
    return rows


def _across(e: Effect) -> TableCell:
    """The half width of the interval for other tasks; of several tasks alone."""
    if e.scope != ALL or not e.across.df > 0:
        return TableCell(UNKNOWN)
    return TableCell(f"±{SPACE}{number(100 * e.across.half, 2)}", e.across.half)


def _row(row: dict[str, Any], cells: list[TableCell]) -> TableRow:
    overrides = row["config"].removeprefix(row["recipe"]).strip()
    number = row.get("number", -1)
    return TableRow(row["recipe"], overrides, row["front"], row["is_baseline"], cells, row["why"], number)


def _gap(row: dict[str, Any], mean: str, half: str) -> TableCell:
    return TableCell(interval(row[mean], row[half], sign=True), sort_key(row[mean]))


def _lost_cell(row: dict[str, Any] | None, tint: bool = False) -> TableCell:
    if row is None:
        return TableCell(UNKNOWN, title="not part of the sweep")
    mean, half = row["lost_mean"], row["lost_half"]
    if math.isnan(mean):
        short = next((word for reason, word in _SHORT.items() if row["why"].startswith(reason)), UNKNOWN)
        return TableCell(short, title=row["why"])
    if row["is_baseline"]:
        return TableCell("0 (reference)", -math.inf, title=row["why"])
    strength = min(1.0, math.log1p(max(0.0, mean) * 100) / math.log1p(100)) if tint else 0.0
    some = (" †" * bool(row["diverged"]) + " ‡" * bool(row["stopped"])) if tint else ""
    title = f"n = {row['seeds']}" + (f"; {row['why']}" if row["why"] else "")
    return TableCell(percent(mean, half) + some, mean, round(strength, 3), title)


def _costs(row: dict[str, Any]) -> list[TableCell]:
    """Bits, overhead and time; where a configuration quantizes after training those of inference, and told so."""
    bits = TableCell(f"{row['mean_bits']:.3g}", sort_key(row["mean_bits"]))
    cells = [bits, _number(row["overhead"]), _number(row["relative_time"])]
    return [replace(cell, title="at inference") for cell in cells] if row["after_training"] else cells


def _number(value: float) -> TableCell:
    return TableCell(number(value), sort_key(value))


def count_cell(value: int) -> TableCell:
    return TableCell(f"{value:,}", value)


def sort_key(value: float) -> float:
    """What a table is sorted by: the value to six digits, unknown ones last."""
    return math.inf if math.isnan(value) else float(f"{value:.6g}")
