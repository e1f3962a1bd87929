"""Accuracy against bits per weight and against time at inference, of recipes that quantize after training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from dse.report.analysis.configs import ALL, pareto_front
from dse.report.analysis.tidy import TidyTable, row_dicts
from dse.text import plural

if TYPE_CHECKING:
    import pandas as pd

    from dse.numerics.recipe import Recipe
    from dse.sweep import Sweep

_FOUR = 4
_MOST_BITS = 5.0
"""Per weight, of what counts as four bits with its scales: not of a branch that takes half as many again."""


@dataclass(frozen=True)
class PostConfig:
    """A configuration after training, or the baseline (``baseline``).

    ``widths``: W4A4, say: bits of W's elements and of X's, 'mixed' where a search gives layers several formats;
    ``weight_bits``: per weight of the models that were quantized here, as their records have it, with scales and all
    that is stored beside; ``large_bits``: the same at the shapes of Llama 3 8B, where a branch of low rank is smaller
    beside its weights; ``time``: of its forward GEMMs and what activations go through, BF16 = 1 (modelled); ``lost``,
    ``half``: share of the improvement that is lost, and half of its 95 % interval; ``by_bits``, ``by_time``: whether no
    other loses less with as few bits, or in as little time.
    """

    config: str
    recipe: str
    widths: str
    weight_bits: float
    time: float
    lost: float
    half: float
    large_bits: float
    baseline: bool = False
    by_bits: bool = False
    by_time: bool = False

    @property
    def overrides(self) -> str:
        """What is changed of the recipe."""
        return self.config.removeprefix(self.recipe).strip()


def post_front(sweep: Sweep, table: TidyTable, configs: pd.DataFrame) -> list[PostConfig]:
    """Configurations that quantize after training and the baseline, over all tasks, the fewest bits first.

    Empty where nothing is known of any; without those of which a seed diverged.
    """
    if configs.empty:
        return []
    recipes = {cell.config: cell.trial.recipe for cell in sweep.cells}
    known = configs[(configs["task"] == ALL) & configs["lost_mean"].notna() & (configs["diverged"] == 0)]
    rows = [row for row in row_dicts(known) if row["is_baseline"] or recipes[row["config"]].post is not None]
    if all(row["is_baseline"] for row in rows):
        return []
    stored = _stored_bits(table)
    found = [_place(row, recipes[row["config"]], stored) for row in rows]
    lost = [one.lost for one in found]
    by_bits, by_time = (pareto_front([getattr(one, x) for one in found], lost) for x in ("weight_bits", "time"))
    judged = [
        PostConfig(**{**vars(one), "by_bits": bits, "by_time": time})
        for one, bits, time in zip(found, by_bits, by_time, strict=True)
    ]
    return sorted(judged, key=lambda one: (one.weight_bits, one.lost, one.config))


def _stored_bits(table: TidyTable) -> dict[str, float]:
    """Configuration -> bits per weight of its models, the mean of its records that tell."""
    found: dict[str, list[float]] = {}
    for uid, record in table.records.items():
        if uid in table.cells and (facts := record.pack.get("post")):
            found.setdefault(table.cells[uid].config, []).append(float(facts["bits_per_weight"]))
    return {config: fmean(bits) for config, bits in found.items()}


def _place(row: dict[str, object], recipe: Recipe, stored: Mapping[str, float]) -> PostConfig:
    from dse.cost.overhead import operand_bits, relative_time
    from dse.cost.storage import weight_bits
    from dse.numerics.techniques.post import candidates

    x, w = (operand_bits(recipe.quantizer(point)) for point in ("fprop.lhs", "fprop.rhs"))
    lost, half = (float(str(row[name])) for name in ("lost_mean", "lost_half"))
    names = str(row["config"]), str(row["recipe"])
    base, large = bool(row["is_baseline"]), weight_bits(recipe)
    bits = stored.get(names[0], large)
    searched = recipe.post is not None and len(candidates(recipe.post, recipe.fprop)) > 1
    return PostConfig(
        *names, "mixed" if searched else f"W{w}A{x}", bits, relative_time(recipe), lost, half, large, base
    )


def best_at_four_bits(found: Sequence[PostConfig]) -> str:
    """Which quantization after training at W4A4, and at what cost, in a sentence; empty where none is known."""
    named = [one for one in found if one.widths == f"W{_FOUR}A{_FOUR}"]
    four = [one for one in named if one.weight_bits <= _MOST_BITS]
    if not four:
        return ""
    best, direct = min(four, key=lambda one: one.lost), min(four, key=lambda one: (one.time, one.lost))
    text = f"At W4A4 {best.config} loses least: {_said(best)}"
    close = [one for one in four if one is not best and one.lost - best.lost < best.half]
    if close:
        text += f"; {len(close)} of {len(four) - 1} others lie within its interval"
    if direct.config != best.config and direct.time < 0.999 * best.time:
        text += f". The fastest is {direct.config}: {_said(direct)}"
    if wide := [one for one in named if one not in four]:
        better = min(wide, key=lambda one: one.lost)
        text += f". {plural(len(wide), 'configuration')} with more than {_MOST_BITS:g} bits per weight here, as with"
        text += (
            f" branches of low rank in small layers, left out; of these {better.config} loses least: {_said(better)}"
        )
    return text + "."


def _said(one: PostConfig) -> str:
    half = f" ± {100 * one.half:.2g}" if one.half == one.half else ""
    large = f" ({one.large_bits:.2f} in Llama 3 8B)" if abs(one.large_bits - one.weight_bits) >= 0.005 else ""
    cost = f"{one.weight_bits:.2f} bits per weight{large}, {one.time:.2f} of BF16's time"
    return f"{100 * one.lost:.3g}{half} % of the improvement, {cost}"


def post_front_frame(found: Iterable[PostConfig]) -> pd.DataFrame:
    """One row per configuration."""
    import pandas as pd

    return pd.DataFrame([vars(one) for one in found])


__all__ = ["PostConfig", "best_at_four_bits", "post_front", "post_front_frame"]
