"""Recipes of the gallery with some options changed, as published comparisons need them."""

from __future__ import annotations

from dataclasses import replace

from dse.numerics.recipe import Recipe, override
from dse.recipes import RECIPES


def changed(name: str, *settings: tuple[str, object]) -> Recipe:
    """A recipe with options at paths set, in this order."""
    recipe = RECIPES[name]
    for path, data in settings:
        recipe = override(recipe, path, data)
    return recipe


def forward_only(recipe: Recipe) -> Recipe:
    """The recipe with both GEMMs of the backward pass in BF16."""
    return replace(recipe, dgrad=RECIPES["bf16"].dgrad, wgrad=RECIPES["bf16"].wgrad)


def backward_only(recipe: Recipe) -> Recipe:
    """The recipe with the forward pass in BF16."""
    return replace(recipe, fprop=RECIPES["bf16"].fprop)


def rotated(name: str, gemms: str, size: int, *settings: tuple[str, object]) -> Recipe:
    """``changed``, with a random Hadamard rotation of a size in some GEMMs."""
    return changed(name, *settings, (f"{gemms}.rotation", {"hadamard": {"size": size}}))


__all__ = ["backward_only", "changed", "forward_only", "rotated"]
