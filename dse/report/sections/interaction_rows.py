"""The heat map of interactions, the largest of them in words, and their CSV data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dse.number_format import SPACE, UNKNOWN, interval, p_value
from dse.report.analysis.interactions import ConditionalEffect
from dse.report.sections.table_rows import TableCell
from dse.text import plural

if TYPE_CHECKING:
    import pandas as pd

_MOST = 8
"""Interactions in words."""


@dataclass(frozen=True)
class InteractionMap:
    """Rows: an option's value instead of its first; columns: values of the other options, grouped by ``heads``.

    ``heads``: (option, its number of columns); ``levels``: the columns; ``cells``: None on the option itself, or where
    there are no trials. ``sentences``: the interactions beyond the noise, the largest first.
    """

    heads: list[tuple[str, int]]
    levels: list[str]
    rows: list[tuple[str, list[TableCell | None]]]
    sentences: list[str]
    tested: int


def interaction_map(found: Sequence[ConditionalEffect]) -> InteractionMap | None:
    """None without interactions."""
    if not found:
        return None
    columns = list(dict.fromkeys((one.other, one.level) for one in found))
    others = list(dict.fromkeys(other for other, _ in columns))
    columns.sort(key=lambda column: others.index(column[0]))
    by = {(one.axis, one.value, one.reference, one.other, one.level): one for one in found}
    options = list(dict.fromkeys((one.axis, one.value, one.reference) for one in found))
    largest = max((abs(one.effect.mean) for one in found if math.isfinite(one.effect.mean)), default=0.0)
    rows = [
        (_option(*option), [_cell(by.get((*option, *column)), largest) for column in columns]) for option in options
    ]
    decided: dict[object, ConditionalEffect] = {}
    for one in found:
        if one.decided:
            decided.setdefault(frozenset({(one.axis, one.value), (one.other, one.level)}), one)
    ranked = sorted(decided.values(), key=lambda one: -abs(one.interaction.mean) if one.interaction else 0.0)
    tests = {frozenset({(one.axis, one.value), (one.other, one.level)}) for one in found if not math.isnan(one.p_holm)}
    heads = {other: sum(name == other for name, _ in columns) for other, _ in columns}
    levels, sentences = [level for _, level in columns], [sentence(one) for one in ranked[:_MOST]]
    return InteractionMap(list(heads.items()), levels, rows, sentences, len(tests))


def sentence(one: ConditionalEffect) -> str:
    """How an effect depends on another option, with intervals."""
    by = _points(one.effect.mean, one.effect.half)
    text = f"{_option(one.axis, one.value, one.reference)} changes the improvement lost by {by} points where "
    text += f"{one.other} = {one.level}"
    if one.interaction is None:
        return text
    apart = _points(one.interaction.mean, one.interaction.half)
    p = f"; Holm{SPACE}{p_value(one.p_holm)}" if math.isfinite(one.p_holm) else ""
    return f"{text}, {apart} more than where {one.other} = {one.against}{p}"


def interaction_frame(found: Sequence[ConditionalEffect]) -> pd.DataFrame:
    """One row per option's value and value of another option, numbers in full."""
    import pandas as pd

    rows = []
    for one in found:
        apart = one.interaction
        rows.append(
            {"axis": one.axis, "value": one.value, "reference": one.reference, "other": one.other, "level": one.level}
            | {"lost_difference": one.effect.mean, "lost_low": one.effect.low, "lost_high": one.effect.high}
            | {"seeds": one.effect.n, "pairs": one.pairs, "against": one.against}
            | {"interaction": apart.mean if apart else None}
            | {"interaction_low": apart.low if apart else None, "interaction_high": apart.high if apart else None}
            | {"p": apart.p if apart else None, "p_holm": one.p_holm}
        )
    return pd.DataFrame(rows)


def _option(axis: str, value: str, reference: str) -> str:
    return f"{axis} = {value} instead of {reference}"


def _cell(one: ConditionalEffect | None, largest: float) -> TableCell | None:
    if one is None:
        return None
    if math.isnan(one.effect.mean):
        return TableCell(UNKNOWN, title="not known on every task")
    text = _points(one.effect.mean, one.effect.half) + (f"{SPACE}*" if one.decided else "")
    tint = math.copysign(math.sqrt(abs(one.effect.mean) / largest), one.effect.mean) if largest else 0.0
    return TableCell(text, one.effect.mean, round(tint, 3), f"{sentence(one)} ({plural(one.pairs, 'pair')})")


def _points(mean: float, half: float) -> str:
    return interval(mean, half, scale=100, limit=2, sign=True)


__all__ = ["InteractionMap", "interaction_frame", "interaction_map", "sentence"]
