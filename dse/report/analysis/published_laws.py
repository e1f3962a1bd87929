"""Published loss laws and effective shares of recipes, to be seen beside a sweep's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dse.numerics.recipe import Recipe
from dse.recipes import RECIPES
from dse.report.analysis.loss_law import EffectiveShares, LossLaw
from dse.report.analysis.published import PUBLISHED_RANKINGS, recipe_content

QUARTET = LossLaw(A=1.52e5, a=0.589, B=5.25e5, b=0.544, E=1.35, g=0.274)
"""Llama on C4, 30M to 200M parameters. Source: arXiv 2505.14669."""
QUARTET2 = LossLaw(A=4014.84, a=0.295205, B=488384, b=0.501269, E=0.346428, g=0.299922)
"""Fitted here (``fit_law``) to the final losses of the 21 BF16 runs that Quartet II published with its code (arXiv
2601.22813): Llama on C4, 30M to 200M parameters, .75B to 80B tokens."""


MEASURED_8B = next(one for one in PUBLISHED_RANKINGS if one.name == "Format-aware fusion")
"""Gaps in percent of BF16's loss at 8B parameters and 160B tokens, 20 for each."""


@dataclass(frozen=True)
class PublishedShares:
    """Effective shares of a recipe under the ``law`` that they were fitted with; ``source`` says whose fit it is."""

    shares: EffectiveShares
    law: LossLaw
    source: str


_FITTED = "fitted here to its 21 runs in Quartet II's code"
_SHARES = {
    "quartet": PublishedShares(EffectiveShares(0.65, 0.95), QUARTET, "arXiv 2505.14669, table 3"),
    "quartet2_4over6": PublishedShares(EffectiveShares(0.747, 1.0), QUARTET2, _FITTED),
    "quartet2": PublishedShares(EffectiveShares(0.718, 1.0), QUARTET2, _FITTED),
    "tetrajet2_base": PublishedShares(EffectiveShares(0.7, 1.0), QUARTET2, _FITTED),
    "four_over_six": PublishedShares(EffectiveShares(0.683, 1.0), QUARTET2, _FITTED),
    "nvfp4": PublishedShares(EffectiveShares(0.666, 1.0), QUARTET2, _FITTED),
}


def published_shares() -> Mapping[str, PublishedShares]:
    """By the content of recipes, whatever a sweep calls them."""
    return {recipe_content(RECIPES[name]): known for name, known in _SHARES.items()}


def shares_of(recipe: Recipe) -> PublishedShares | None:
    """What is published of a recipe, if anything."""
    return published_shares().get(recipe_content(recipe))


def measured_gap(recipe: Recipe) -> float | None:
    """A recipe's gap in MEASURED_8B, as a share of the loss."""
    percent = MEASURED_8B.values.get(recipe_content(recipe))
    return None if percent is None else percent / 100


__all__ = ["MEASURED_8B", "QUARTET", "QUARTET2", "PublishedShares", "measured_gap", "published_shares", "shares_of"]
