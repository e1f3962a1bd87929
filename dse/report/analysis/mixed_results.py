"""The law of mixed quantization in a sweep's results: for each task and recipe whose budgets of bits vary."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from dse.numerics.block import BlockQuantizer
from dse.numerics.techniques.post import AutoQuantize
from dse.report.analysis.mixed_law import Bounded, MixedLaw, MixedPoints, fit_mixed_law
from dse.report.analysis.tidy import TidyTable

if TYPE_CHECKING:
    import pandas as pd

_Key = tuple[str, str, str]
"""Task, recipe, and what else of the search differs as text."""
_Place = tuple[int, str]
"""Weights of the model, and configuration."""


@dataclass(frozen=True)
class MixedResult:
    """The law fitted to a task and a recipe, or why there is none; ``search``: what sets the search apart."""

    task: str
    recipe: str
    search: str
    law: MixedLaw | None
    why: str

    def __str__(self) -> str:
        """In a sentence."""
        name = ", ".join(filter(None, (self.task, self.recipe, self.search)))
        if self.law is None:
            return f"{name}: no law of mixed quantization, {self.why}."
        law = self.law
        block = "" if law.block is None else f" Q_b^{_said(law.block)}"
        if law.block is not None and law.offset is not None:
            block = f" (Q_b + {_said(law.offset)})^{_said(law.block)}"
        size = "" if law.size is None else f" N^-{_said(law.size)}"
        unknown = [text for text, term in (("N", law.size), ("Q_b", law.block)) if term is None]
        idle = f"; {' and '.join(unknown)} {'has' if len(unknown) == 1 else 'have'} one value here" if unknown else ""
        out = f", {law.left_out} without an increase left out" if law.left_out else ""
        return (
            f"{name}: the metric grows by {_said(law.constant)} exp({_said(law.share)} Q_r){block}{size} "
            f"({law.points} configurations{out}, off by {100 * law.spread:.2g} %{idle})."
        )


def mixed_results(table: TidyTable) -> list[MixedResult]:
    """A fit for every task and recipe with searches between two formats whose records tell the shares.

    Increases are gaps to the unquantized model of the same seed. Searches among more formats, formats with one scale
    for a whole row and layers under rules have no share and block of the law's, and are not part.
    """
    groups: dict[_Key, dict[_Place, list[tuple[str, float, int, float]]]] = {}
    for row in table.rows:
        record = table.records.get(row["uid"])
        facts: dict[str, Any] = record.pack.get("post", {}) if record else {}
        recipe = table.cells[row["uid"]].trial.recipe
        search, w = recipe.post, recipe.fprop.rhs
        if not isinstance(search, AutoQuantize) or len(search.formats) != 1 or recipe.layers:
            continue
        if not isinstance(w, BlockQuantizer) or not w.block or math.isnan(row["gap"]) or "format_shares" not in facts:
            continue
        trial = table.cells[row["uid"]].trial
        place = int(facts.get("weights", 0)), f"{row['task']} {row['config']}"
        point = str(row["seed"]), float(facts["format_shares"][0]), w.block, float(row["gap"])
        key = trial.task.name, str(row["recipe"]), "" if search.score == "gradient" else f"score {search.score}"
        groups.setdefault(key, {}).setdefault(place, []).append(point)
    return [_fitted(key, places) for key, places in groups.items()]


def _fitted(key: _Key, places: dict[_Place, list[tuple[str, float, int, float]]]) -> MixedResult:
    seeds = sorted({seed for points in places.values() for seed, *_ in points})
    increase = np.full((len(places), len(seeds)), np.nan)
    for i, points in enumerate(places.values()):
        for seed, _, _, gap in points:
            increase[i, seeds.index(seed)] = gap
    share = np.array([fmean(share for _, share, _, _ in points) for points in places.values()])
    block = np.array([float(points[0][2]) for points in places.values()])
    size = np.array([float(max(weights, 1)) for weights, _ in places])
    quantized = share > 0
    if not quantized.any():
        return MixedResult(*key, None, "no weights have the recipe's format")
    measured = MixedPoints(size[quantized], share[quantized], block[quantized], increase[quantized])
    try:
        return MixedResult(*key, fit_mixed_law(measured), "")
    except ValueError as error:
        return MixedResult(*key, None, str(error))


def _said(one: Bounded) -> str:
    bounds = f" [{one.low:.3g}, {one.high:.3g}]" if one.low == one.low else ""
    return f"{one.value:.3g}{bounds}"


def mixed_frame(found: Iterable[MixedResult]) -> pd.DataFrame:
    """One row per fit; NaN for what it cannot tell."""
    import pandas as pd

    rows = []
    for one in found:
        row: dict[str, object] = {"task": one.task, "recipe": one.recipe, "search": one.search, "why": one.why}
        for name in ("constant", "share", "size", "block", "offset"):
            term = getattr(one.law, name, None) or Bounded(*[math.nan] * 3)
            row |= {name: term.value, f"{name}_low": term.low, f"{name}_high": term.high}
        law = one.law
        rows.append(row | {"points": law.points if law else 0, "spread": law.spread if law else math.nan})
    return pd.DataFrame(rows)


__all__ = ["MixedResult", "mixed_frame", "mixed_results"]
