"""Two recipes of a sweep that varies more than recipes: over the pairs of trials that differ in nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

from dse.number_format import UNKNOWN, interval
from dse.report.analysis.configs import ALL
from dse.report.analysis.effects import BASELINE, VERSUS, Effect
from dse.report.analysis.noise_words import in_doubt
from dse.report.questions.answer import Answer, Study
from dse.stats import Estimate
from dse.text import plural


def compare_recipes(study: Study, question: str, a: str, b: str) -> Answer | None:
    """Whether recipe ``a`` loses less than ``b`` where all else is equal.

    None where both are configurations, or where one is not a recipe, or no pair of trials differs in the recipe alone.
    """
    table = study.table
    configs = {cell.config for cell in table.cells.values()}
    if {a, b} <= configs or not {a, b} <= set(table.recipes):
        return None
    found = {scope: effect for scope in (ALL, *table.tasks) if (effect := _effect(study, a, b, scope)) is not None}
    if ALL not in found or math.isnan(found[ALL].lost.mean):
        return None
    over = found[ALL]
    text = (
        f"{a} {verdict(over.lost, over.p_holm, over.comparisons)} {b}: {points(over.lost)} points of the improvement "
    )
    text += (
        f"over {plural(over.lost.n, 'seed')}, the mean of {plural(over.pairs, 'pair')} of trials that differ in the "
    )
    text += "recipe alone"
    if len(found) > 2:
        text += f" ({', '.join(f'{task} {points(own.lost)}' for task, own in found.items() if task != ALL)})"
    mine = list(dict.fromkeys(row["config"] for row in table.rows if row["recipe"] in (a, b)))
    return Answer(question, f"{text}.", study.trials(mine))


def _effect(study: Study, a: str, b: str, scope: str) -> Effect | None:
    """Of ``a`` instead of ``b``."""
    for one in study.effects:
        if one.kind in (VERSUS, BASELINE) and one.scope == scope and {one.value, one.reference} == {a, b}:
            return one if one.value == a else replace(one, lost=replace(one.lost, mean=-one.lost.mean))
    return None


def verdict(found: Estimate, p: float | None = None, comparisons: int = 1) -> str:
    """The verb of a comparison, with the reason where nothing is told apart."""
    verb = "loses less than" if found.mean < 0 else "loses more than"
    if not found.df > 0:
        return f"{verb} (one seed, no interval)"
    doubt = in_doubt(found, p, comparisons)
    return f"is not told apart ({doubt}) from" if doubt else verb


def points(found: Estimate) -> str:
    """A difference of the improvement lost in percentage points, with its interval."""
    return interval(found.mean, found.half, scale=100, limit=2, sign=True) if not math.isnan(found.mean) else UNKNOWN


__all__ = ["compare_recipes", "points", "verdict"]
