"""Accuracy against bits per weight and against time at inference, of recipes that quantize after training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from dse.report.analysis.configs import ALL, pareto_front
from dse.report.analysis.tidy import TidyTable, format_shares, row_dicts
from dse.text import plural

if TYPE_CHECKING:
    import pandas as pd

    from dse.numerics.recipe import Recipe
    from dse.sweep import Sweep

_FOUR = 4
MIXED = "mixed"
_MOST_BITS = 5.0
"""Per weight, of what counts as four bits with its scales: not of a branch that takes half as many again."""
_HALF = 8.0
"""Bits per weight below which a mix of widths is told of beside four bits."""


@dataclass(frozen=True)
class PostConfig:
    """A configuration after training, or the baseline (``baseline``).

    ``widths``: W4A4, say: bits of W's elements and of X's, 'mixed' where layers have several (by rules, by what the
    recipe leaves in 16 bits, by a search's choice); ``weight_bits``: per weight of the models that were quantized here,
    as their records have it, with scales, all that is stored beside and layers that the recipe leaves; ``large_bits``:
    the same at the shapes of Llama 3 8B, where a branch of low rank is smaller beside its weights; ``time``: of its
    forward GEMMs and what activations go through, BF16 = 1 (modelled). Both take the shares of formats that a search
    has chosen here, in the mean over the records; without records its budget decides. ``lost``,
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
    measured = _measured(table)
    shares = format_shares((table.cells[uid].config, one) for uid, one in table.records.items() if uid in table.cells)
    known_of = [(recipes[name], measured.get(name, _Measured()), shares.get(name, ())) for name in map(_config, rows)]
    found = [_place(row, *known) for row, known in zip(rows, known_of, strict=True)]
    lost = [one.lost for one in found]
    by_bits, by_time = (pareto_front([getattr(one, x) for one in found], lost) for x in ("weight_bits", "time"))
    judged = [
        PostConfig(**{**vars(one), "by_bits": bits, "by_time": time})
        for one, bits, time in zip(found, by_bits, by_time, strict=True)
    ]
    return sorted(judged, key=lambda one: (one.weight_bits, one.lost, one.config))


@dataclass(frozen=True)
class _Measured:
    """What a configuration's records say of its models, in the mean over them.

    ``bits``: per weight; ``left``: the largest share of weights that the recipe left as trained. None where no record
    tells, or (of recipes that leave layers) all are older than the count of what is left.
    """

    bits: float | None = None
    left: float | None = None


def _measured(table: TidyTable) -> dict[str, _Measured]:
    """Configuration -> what its records say."""
    found: dict[str, list[dict[str, float]]] = {}
    for uid, record in table.records.items():
        if uid in table.cells and (facts := record.pack.get("post")):
            own = table.cells[uid]
            if "left_weights" in facts or not _leaves(own.trial.recipe):
                found.setdefault(own.config, []).append(facts)
    return {
        config: _Measured(
            fmean(float(one["bits_per_weight"]) for one in facts),
            max(one.get("left_weights", 0) / one["weights"] if "weights" in one else 0.0 for one in facts),
        )
        for config, facts in found.items()
    }


def _config(row: dict[str, object]) -> str:
    return str(row["config"])


def _leaves(recipe: Recipe) -> bool:
    """Whether a recipe may leave layers as they were trained."""
    from dse.numerics.recipe import Exempt

    return recipe.exempt != Exempt() or any(rule.recipe is None for rule in recipe.layers)


def _widths(recipe: Recipe, shares: Sequence[float], left: float | None) -> str:
    """W4A4, say, or 'mixed' where layers differ: by rules, by what is left, or by what a search has chosen."""
    from dse.cost.overhead import operand_bits
    from dse.numerics.techniques.post import candidates

    found = {(16, 16)} if (_leaves(recipe) if left is None else left > 0) else set()
    for own in recipe.numerics:
        method = own.post or recipe.post
        gemms = [gemm for gemm, _ in candidates(method, own.fprop)] if method else [own.fprop]
        if 1 < len(gemms) == len(shares):
            gemms = [gemm for gemm, share in zip(gemms, shares, strict=True) if share > 0]
        found |= {(operand_bits(gemm.rhs), operand_bits(gemm.lhs)) for gemm in gemms}
    if len(found) > 1:
        return MIXED
    w, x = found.pop()
    return f"W{w}A{x}"


def _place(row: dict[str, object], recipe: Recipe, measured: _Measured, shares: Sequence[float]) -> PostConfig:
    from dse.cost.overhead import relative_time
    from dse.cost.storage import weight_bits

    lost, half = (float(str(row[name])) for name in ("lost_mean", "lost_half"))
    names = str(row["config"]), str(row["recipe"])
    base, large = bool(row["is_baseline"]), weight_bits(recipe, shares=shares)
    widths = _widths(recipe, shares, measured.left)
    bits = large if measured.bits is None else measured.bits
    return PostConfig(*names, widths, bits, relative_time(recipe, shares=shares), lost, half, large, base)


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
    if mixed := [one for one in found if one.widths == MIXED and one.weight_bits < _HALF]:
        least = min(mixed, key=lambda one: one.lost)
        text += f". {plural(len(mixed), 'configuration')} with layers of several widths, and less than {_HALF:g} bits "
        text += f"per weight, left out; of these {least.config} loses least: {_said(least)}"
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
