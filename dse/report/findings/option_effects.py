"""Finding: the options with the largest effects."""

from __future__ import annotations

import math

from dse.number_format import SPACE, interval, p_value
from dse.report.analysis.configs import ALL
from dse.report.analysis.effects import OPTION, Effect
from dse.report.findings.finding import Finding
from dse.text import plural


def strongest_option(found: list[Effect]) -> Finding | None:
    """The largest effects over all tasks that are significant after Holm's correction, or a statement that none is."""
    tried = [e for e in found if e.kind == OPTION and e.scope == ALL and not e.recipe and math.isfinite(e.lost.mean)]
    if not tried:
        return None
    sure = sorted((e for e in tried if e.p_holm < 0.05), key=lambda e: -abs(e.lost.mean))
    if not sure:
        largest = max(tried, key=lambda e: abs(e.lost.mean))
        corrected = f" after Holm's correction for {plural(largest.comparisons, 'comparison')}"
        none = f"None of {plural(len(tried), 'option value')} makes a difference beyond the noise"
        known = [e for e in tried if e.lost.df > 0]
        none += corrected if any(e.lost.excludes_zero for e in known) else "" if known else ": one seed, no interval"
        return Finding("Options", f"{none}. The largest: {_effect(largest)}.")
    rest = [_effect(e) + "." for e in sure[1:4]]
    more = len(tried) - len(sure)
    if more:
        doubtful = sum(e.lost.excludes_zero for e in tried if e not in sure)
        but = f" after Holm's correction for {plural(sure[0].comparisons, 'comparison')}" if doubtful else ""
        rest.append(f"{plural(more, 'other option value')}: not separated from zero{but}.")
    return Finding("Strongest option", _effect(sure[0]) + ".", rest)


def _effect(e: Effect) -> str:
    p = f", Holm{SPACE}{p_value(e.p_holm)}" if math.isfinite(e.p_holm) else ", no interval"
    by = interval(e.lost.mean, e.lost.half, scale=100, limit=2, sign=True)
    verb = "changes the improvement lost by"
    return (
        f"{e.axis} = {e.value} instead of {e.reference} {verb} {by} points "
        f"({'better' if e.lost.mean < 0 else 'worse'}; {e.better:,} of {plural(e.pairs, 'pair')} better{p})"
    )
