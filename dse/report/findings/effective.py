"""Finding: what recipes leave of a language model's parameters and tokens, by its loss law."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dse.number_format import SPACE
from dse.report.analysis.law_fits import LARGE, TOKENS_PER_PARAMETER, BoundedInterval, RecipeLaw, TaskLaw
from dse.report.findings.finding import Finding
from dse.report.sections.law_rows import size_name, warning
from dse.text import listing

_MOST = 4


def effective_shares(found: Sequence[TaskLaw]) -> Finding | None:
    """Of the first law that is fitted: the recipes worth most, and the one worth least."""
    one = next((one for one in found if one.law is not None and one.recipes), None)
    if one is None:
        return None
    shown = [*one.recipes[:_MOST], *one.recipes[_MOST:][-1:]]
    worth = [
        f"{own.config} {_ends(own.parameters)} of the parameters and {_ends(own.tokens)} of the tokens" for own in shown
    ]
    gaps = [f"{own.config} {_percent(own)}" for own in shown]
    points = [
        f"Extrapolated to {size_name(LARGE[0])} parameters and {TOKENS_PER_PARAMETER} tokens for each, "
        f"{one.beyond:,.0f} times the largest model here, the loss rises by {listing(gaps)}."
    ]
    points += [said] if (said := warning(one)) else []
    sentence = (
        f"By the loss law of {one.task}, from {len(one.losses)} sizes and token budgets, a recipe is worth "
        f"{one.baseline} with a share of its parameters and tokens: {'; '.join(worth)}."
    )
    return Finding("Loss law", sentence, points)


def _ends(known: BoundedInterval) -> str:
    if math.isnan(known.low):
        return f"{known.value:.2f}"
    return f"{known.value:.2f} ({known.low:.2f} to {known.high:.2f})"


def _percent(own: RecipeLaw) -> str:
    gap = own.gaps[0]
    ends = "" if math.isnan(gap.low) else f" ({100 * gap.low:.2f} to {100 * gap.high:.2f})"
    return f"{100 * gap.value:.2f}{ends}{SPACE}%"


__all__ = ["effective_shares"]
