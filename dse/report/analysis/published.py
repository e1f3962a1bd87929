"""Published rankings of recipes, as data, for comparison with a sweep's own rankings.

A value says how bad a recipe is; only the order counts, and equal values claim none. Recipes are matched by their
content, whatever a sweep calls them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from dse.numerics.recipe import Recipe
from dse.numerics.registry import to_data
from dse.recipes import RECIPES
from dse.report.analysis.changed_recipes import backward_only, changed, forward_only, rotated


@dataclass(frozen=True)
class PublishedRanking:
    """A published ranking. ``values``: content of a recipe (``recipe_content``) -> what was measured, in ``unit``."""

    name: str
    source: str
    unit: str
    values: dict[str, float]


@lru_cache(maxsize=4096)
def recipe_content(recipe: Recipe) -> str:
    """A recipe without its texts, so that equal numerics are equal."""
    return json.dumps(to_data(replace(recipe, name="", summary="", source="")), sort_keys=True)


def _published(name: str, source: str, unit: str, values: Iterable[tuple[Recipe, float]]) -> PublishedRanking:
    return PublishedRanking(name, source, unit, {recipe_content(recipe): value for recipe, value in values})


PUBLISHED_RANKINGS = (
    _published(
        "Quartet II: one direction, or all",
        "arXiv 2601.22813, mean over 574 runs of 30M to 200M parameters",
        "% of BF16's loss",
        (
            (RECIPES["nvfp4"], 2.53),
            (forward_only(rotated("nvfp4", "fprop", 16)), 2.47),
            (forward_only(RECIPES["nvfp4"]), 2.24),
            (forward_only(rotated("nvfp4_plain", "fprop", 16)), 2.19),
            (forward_only(RECIPES["nvfp4_plain"]), 1.93),
            (RECIPES["tseng_mxfp4"], 0.42),
            (backward_only(rotated("nvfp4_plain", "backward", 128, ("backward.rounding", "stochastic"))), 0.364),
            (backward_only(rotated("mxfp4", "backward", 32)), 0.226),
        ),
    ),
    _published(
        "NVIDIA: NVFP4's stabilizers left out",
        "arXiv 2509.25149, ablations at 1.2B and 12B parameters: without one of them it is worse, without any it "
        "diverges, as with stochastic rounding of all operands",
        "0 the recipe, 1 worse, 2 diverged",
        (
            (RECIPES["nvfp4"], 0),
            (changed("nvfp4", ("G.rounding", "nearest_even")), 1),
            (changed("nvfp4", ("wgrad.rotation", "none")), 1),
            (changed("nvfp4", ("W.tile", 1)), 1),
            (changed("nvfp4", ("*.rounding", "stochastic")), 2),
            (RECIPES["nvfp4_plain"], 2),
        ),
    ),
    _published(
        "Format-aware fusion",
        "arXiv 2610.00053, 8B parameters, 160B tokens, one run each",
        "% of BF16's loss",
        (
            (RECIPES["nvfp4"], 1.34),
            (RECIPES["fusion_mxfp4_h32"], 2.11),
            (RECIPES["fusion_nvfp4"], 2.69),
            (RECIPES["fusion_mxfp4"], 6.53),
        ),
    ),
    _published(
        "UE5M3",
        "arXiv 2609.02846, 8B parameters, 189B tokens, one run each",
        "training loss",
        (
            (RECIPES["ue5m3"], 2.3090),
            (RECIPES["ue5m3_b32"], 2.3241),
            (RECIPES["nvfp4"], 2.3474),
            (changed("nvfp4", ("wgrad.rotation", "none")), 2.4420),
        ),
    ),
)

__all__ = ["PUBLISHED_RANKINGS", "PublishedRanking", "recipe_content"]
