"""Findings: the order of the recipes over all tasks, and the cheapest configuration close to the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dse.number_format import SPACE, interval, number, percent
from dse.report.analysis.noise_words import in_doubt
from dse.report.analysis.paired_configs import paired
from dse.report.analysis.short_names import few, own_names
from dse.report.analysis.tidy import TidyTable, row_dicts
from dse.report.findings.finding import CLOSE, Finding
from dse.results.record import DIVERGED
from dse.stats import holm
from dse.text import listing, plural

if TYPE_CHECKING:
    import pandas as pd

_MOST = 8
_FEW = 4


def recipe_order(table: TidyTable, overall: pd.DataFrame, chosen: list[str]) -> Finding | None:
    """What each recipe loses, by one configuration each (``chosen``), and which are told apart from their neighbors.

    Of more than ``_MOST`` recipes those of the narrowest operands that lose least; wider ones are a point of their own.
    """
    rows = overall[overall["config"].isin(chosen) & ~overall["is_baseline"]]
    known = row_dicts(rows[rows["lost_mean"].notna()].sort_values("lost_mean"))
    unknown = _unknown(row_dicts(rows[rows["lost_mean"].isna()]))
    if not known:
        return Finding("No recipe has a gap on every task yet", f"{unknown}.") if unknown else None
    narrow, wide = ([r for r in known if bool(r["narrow"]) is own] for own in (True, False))
    ranked, others = (known, []) if len(known) <= _MOST or not narrow else (narrow, wide)
    names = own_names(ranked)
    where = ["averaged over the tasks" if len(table.tasks) > 1 else f"on {table.tasks[0]}"]
    if not all(r["named"] for r in ranked):
        where.append("each recipe in the best of its configurations (a choice that flatters it)")
    shown = [f"{names[r['config']]}{SPACE}{_lost(r)}" for r in ranked[:_MOST]]
    kind = f"{max(r['bits'] for r in ranked)}-bit recipes" if others else "recipes"
    which = f", of the {_MOST} of {len(ranked)} {kind} that lose least" if len(ranked) > _MOST else ""
    which = which or (f", of the {kind}" if others else "")
    share = f"Share of {table.baseline}'s training improvement that is lost{which}, {', '.join(where)}"
    points = [_noise(known), *_neighbors(table, [r["config"] for r in ranked[:_MOST]], names)]
    if others:
        best = [f"{r['recipe']}{SPACE}{_lost(r)}" for r in others]
        points.append(f"Wider ones: {listing(few(best, _FEW))}.")
    points += [f"Not ranked: {unknown}."] if unknown else []
    lead = f"Order of the {kind}" if len(ranked) > 1 else "What is lost"
    return Finding(lead, f"{share}: {', '.join(shown)}.", [point for point in points if point])


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


def _lost(row: dict[str, Any]) -> str:
    return f"{percent(row['lost_mean'], row['lost_half'])}{_without(row)}"


def _unknown(rows: Sequence[dict[str, Any]]) -> str:
    """Recipes without a place, by reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reasons.setdefault(row["why"], []).append(row["recipe"])
    return "; ".join(f"{listing(few(recipes, _MOST))}: {why}" for why, recipes in reasons.items())


def _noise(known: Sequence[dict[str, Any]]) -> str:
    if not any(r["estimate"].df > 0 for r in known):
        return "There is no interval (a single seed on some task), so what exceeds the noise is unknown."
    within = [r["recipe"] for r in known if r["estimate"].df > 0 and not r["estimate"].excludes_zero]
    if not within:
        return ""
    return f"Within noise of the baseline (the 95{SPACE}% interval includes zero): {listing(few(within, _MOST))}."


def _neighbors(table: TidyTable, order: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Which neighbors in the ranking are told apart by the differences, paired by seed, of the very configurations."""
    pairs = [(better, worse, paired(table, worse, better)) for better, worse in pairwise(order)]
    pairs = [one for one in pairs if one[2].df > 0]
    adjusted = holm([found.p for _, _, found in pairs])
    lists: dict[str, list[str]] = {"": []}
    for (better, worse, found), p in zip(pairs, adjusted, strict=True):
        by = interval(found.mean, found.half, scale=100, limit=2)
        text = f"{names[better]} before {names[worse]} by {by} points"
        lists.setdefault(in_doubt(found, p, len(pairs)), []).append(text)
    test = f"Holm p{SPACE}<{SPACE}0.05" + (f", {len(pairs)} comparisons" if len(pairs) > 1 else "")
    apart = lists.pop("")
    lines = [f"Told apart by the paired differences of these ({test}): {listing(apart)}."] if apart else []
    return lines + [f"Not told apart ({why}): {listing(those)}." for why, those in lists.items()]


def _without(row: dict[str, Any]) -> str:
    return f" (without {plural(row[DIVERGED], 'diverged seed')})" if row[DIVERGED] else ""


def _describe(rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    lost, extra = percent(row["lost_mean"], row["lost_half"]), number(row["overhead"])
    return f"{row['config']} loses {lost} of the improvement at {extra}{SPACE}% extra vector operations"
