"""Findings: the order of the recipes over all tasks, and the cheapest configuration close to the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dse.number_format import SPACE, interval, number, percent
from dse.report.analysis.effects import Effect, recipe_pairs
from dse.report.analysis.tidy import TidyTable, row_dicts
from dse.report.findings.finding import CLOSE, Finding
from dse.results.record import DIVERGED
from dse.text import listing, plural

if TYPE_CHECKING:
    import pandas as pd

_MOST = 8


def recipe_order(table: TidyTable, overall: pd.DataFrame, found: list[Effect], chosen: list[str]) -> Finding | None:
    """The accuracy that each recipe loses, and which recipes are within noise of the baseline or of each other."""
    rows = overall[overall["config"].isin(chosen) & ~overall["is_baseline"]]
    ranked = row_dicts(rows[rows["lost_mean"].notna()].sort_values("lost_mean"))
    unknown = _unknown(row_dicts(rows[rows["lost_mean"].isna()]))
    if not ranked:
        return Finding("No recipe has a gap on every task yet", f"{unknown}.") if unknown else None
    where = ["averaged over the tasks" if len(table.tasks) > 1 else f"on {table.tasks[0]}"]
    if not all(r["named"] for r in ranked):
        where.append("each recipe in the best of its configurations (a choice that flatters it)")
    shown = [f"{r['recipe']}{SPACE}{percent(r['lost_mean'], r['lost_half'])}{_without(r)}" for r in ranked[:_MOST]]
    more = f" and {plural(len(ranked) - _MOST, 'more', 'more')}" if len(ranked) > _MOST else ""
    share = f"Share of {table.baseline}'s training improvement that is lost, {', '.join(where)}"
    points = [_noise(ranked), *_neighbors(found, [r["recipe"] for r in ranked])]
    points += [f"Not ranked: {unknown}."] if unknown else []
    lead = "Order of the recipes" if len(ranked) > 1 else "What is lost"
    return Finding(lead, f"{share}: {', '.join(shown)}{more}.", [point for point in points if point])


def cheapest_config(overall: pd.DataFrame) -> Finding | None:
    """The least overhead among the configurations that lose at most CLOSE, for certain if possible."""
    rows = overall[overall["eligible"]].sort_values(["overhead", "lost_mean"])
    if rows.empty:
        return None
    lead = f"Cheapest {rows['bits'].max()}-bit configuration close to the baseline"
    limit = f"{CLOSE * 100:g}{SPACE}%"
    sure = rows[rows["lost_mean"] + rows["lost_half"] <= CLOSE]
    if len(sure):
        return Finding(lead, f"{_describe(sure)}; its whole 95{SPACE}% interval stays below {limit}.")
    likely = rows[rows["lost_mean"] <= CLOSE]
    if len(likely):
        doubt = (
            f"its interval reaches beyond {limit}" if likely["lost_half"].notna().iloc[0] else "there is no interval"
        )
        return Finding(lead, f"{_describe(likely)}; the mean is below {limit}, but {doubt}.")
    return Finding(lead, f"None loses less than {limit}. The closest: {_describe(rows.sort_values('lost_mean'))}.")


def _unknown(rows: Sequence[dict[str, Any]]) -> str:
    """Recipes without a place, by reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reasons.setdefault(row["why"], []).append(row["recipe"])
    return "; ".join(f"{listing(recipes)}: {why}" for why, recipes in reasons.items())


def _noise(ranked: Sequence[dict[str, Any]]) -> str:
    if not any(r["estimate"].df > 0 for r in ranked):
        return "There is no interval (a single seed on some task), so what exceeds the noise is unknown."
    within = [r["recipe"] for r in ranked if r["estimate"].df > 0 and not r["estimate"].excludes_zero]
    return f"Within noise of the baseline (the 95{SPACE}% interval includes zero): {listing(within)}." if within else ""


def _neighbors(found: list[Effect], order: list[str]) -> list[str]:
    """Which neighbors in the ranking their paired differences, over all options they share, tell apart."""
    pairs = recipe_pairs(found)
    apart: list[str] = []
    near: list[str] = []
    for better, worse in pairwise(order):
        effect = pairs.get((worse, better))
        if effect is None or not effect.lost.df > 0 or effect.lost.mean < 0:
            continue
        by = interval(effect.lost.mean, effect.lost.half, scale=100, limit=2)
        (apart if effect.p_holm < 0.05 else near).append(f"{better} before {worse} by {by} points")
    lines = [f"Told apart by paired differences (Holm p{SPACE}<{SPACE}0.05): {listing(apart)}."] if apart else []
    return lines + ([f"Not told apart: {listing(near)}."] if near else [])


def _without(row: dict[str, Any]) -> str:
    return f" (without {plural(row[DIVERGED], 'diverged seed')})" if row[DIVERGED] else ""


def _describe(rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    lost, extra = percent(row["lost_mean"], row["lost_half"]), number(row["overhead"])
    return f"{row['config']} loses {lost} of the improvement at {extra}{SPACE}% extra vector operations"
