"""The tables of loss laws: effective parameters and tokens of each recipe, and its gap at the size of large models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.number_format import SPACE, UNKNOWN, number
from dse.report.analysis.law_fits import LARGE, TOKENS_PER_PARAMETER, BoundedInterval, RecipeLaw, TaskLaw, extrapolated
from dse.report.analysis.published_laws import MEASURED_8B
from dse.report.sections.table_rows import TableCell, count_cell, sort_key
from dse.text import listing

if TYPE_CHECKING:
    import pandas as pd


def law_rows(found: Sequence[TaskLaw]) -> list[tuple[TaskLaw, str, list[tuple[str, list[TableCell]]]]]:
    """Of each task: its law, the law's constants in words, and a row per configuration."""
    return [(one, _constants(one), [(own.config, _cells(own)) for own in one.recipes]) for one in found]


def warning(one: TaskLaw) -> str:
    """What speaks against a law, in a sentence or two; nothing where nothing does."""
    said = []
    if one.misfit > one.typical:
        said.append(
            f"The law misses the losses of {one.baseline} by {100 * one.misfit:.2f} %, more than the median recipe "
            f"loses ({100 * one.typical:.2f} %): shares and gaps are rough."
        )
    if one.rising:
        sizes = listing([size_name(size) for size in one.rising])
        said.append(
            f"At {sizes} parameters the loss of {one.baseline} rises with more tokens, as where a text is learned by "
            "heart. The law falls everywhere, so what it says there, and beyond, is not to be trusted."
        )
    return " ".join(said)


def law_frame(found: Sequence[TaskLaw]) -> pd.DataFrame:
    """One row per task and configuration, numbers in full; gaps as shares of the baseline's loss."""
    import pandas as pd

    return pd.DataFrame([_frame_row(one, own) for one in found for own in one.recipes])


def size_name(count: float) -> str:
    """A number of parameters or tokens, in short.

    >>> size_name(8e9), size_name(516096), size_name(188416)
    ('8B', '0.52M', '188K')
    """
    for unit, scale, least in (("B", 1e9, 5e8), ("M", 1e6, 5e5), ("K", 1e3, 1e3)):
        if count >= least:
            return f"{count / scale:.{2 if count < 100 * scale else 3}g}{unit}"
    return f"{count:g}"


def _frame_row(one: TaskLaw, own: RecipeLaw) -> dict[str, object]:
    law = one.law
    row: dict[str, object] = {"task": one.task, "config": own.config}
    for name, known in (("parameters", own.parameters), ("tokens", own.tokens)):
        row |= {f"effective_{name}": known.value, f"{name}_low": known.low, f"{name}_high": known.high}
    row |= {"parameters_unbounded": own.free.parameters, "tokens_unbounded": own.free.tokens}
    for size, known in zip(LARGE, own.gaps, strict=True):
        name = f"gap_{size_name(size)}"
        row |= {name: known.value, f"{name}_low": known.low, f"{name}_high": known.high}
    published = own.published
    row |= {
        "published_parameters": published.shares.parameters if published else math.nan,
        "published_tokens": published.shares.tokens if published else math.nan,
        **{
            f"published_gap_{size_name(size)}": extrapolated(published.law, published.shares, size)
            if published
            else math.nan
            for size in LARGE
        },
        "published_source": published.source if published else "",
        "measured_gap_8B": own.measured,
        "points": len(own.excess),
        "seeds": own.seeds,
        "tokens_per_parameter": TOKENS_PER_PARAMETER,
    }
    return row | (vars(law) if law else {}) | {"misfit": one.misfit}


def _constants(one: TaskLaw) -> str:
    if one.law is None:
        return ""
    law = one.law
    named = {"A": law.A, "a": law.a, "B": law.B, "b": law.b, "g": law.g, "E": law.E}
    return ", ".join(f"{name}{SPACE}={SPACE}{number(value)}" for name, value in named.items())


def _cells(own: RecipeLaw) -> list[TableCell]:
    published = own.published
    shares, gaps, first = UNKNOWN, UNKNOWN, math.inf
    if published:
        shares = f"{published.shares.parameters:.2f} and {published.shares.tokens:.2f}"
        values = [100 * extrapolated(published.law, published.shares, size) for size in LARGE]
        gaps, first = " and ".join(f"{value:.2f}" for value in values), values[0]
    return [
        _share(own.parameters),
        _plain(own.free.parameters),
        _share(own.tokens),
        _plain(own.free.tokens),
        *(_gap(known) for known in own.gaps),
        TableCell(shares, -published.shares.parameters if published else math.inf, title=_source(own)),
        TableCell(gaps, first, title=_source(own)),
        _measured(own.measured),
        count_cell(len(own.excess)),
        count_cell(own.seeds),
    ]


def _measured(gap: float | None) -> TableCell:
    if gap is None:
        return TableCell(UNKNOWN)
    return TableCell(f"{100 * gap:.2f}", gap, title=MEASURED_8B.source)


def _source(own: RecipeLaw) -> str:
    return own.published.source if own.published else ""


def _share(known: BoundedInterval) -> TableCell:
    return TableCell(f"{known.value:.3f}{_ends(known, 1, 3)}", sort_key(-known.value))


def _plain(value: float) -> TableCell:
    return TableCell(number(value), sort_key(-value))


def _gap(known: BoundedInterval) -> TableCell:
    return TableCell(f"{100 * known.value:.2f}{_ends(known, 100, 2)}", sort_key(known.value))


def _ends(known: BoundedInterval, scale: float, digits: int) -> str:
    """The interval in brackets; nothing where there is none."""
    if math.isnan(known.low):
        return ""
    return f" ({scale * known.low:.{digits}f} to {scale * known.high:.{digits}f})"


__all__ = ["law_frame", "law_rows", "size_name", "warning"]
