"""Storage of a deployed model's weights: bits per weight, and how many layers have which format after a search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from dse.cost.ruled_shapes import by_layer
from dse.cost.shapes import LLAMA3_8B, LayerShape
from dse.numerics.recipe import Recipe
from dse.numerics.stored_bits import stored_bits
from dse.numerics.techniques.post import AutoQuantize, Rtn, candidates


def by_format(recipe: Recipe, layer: LayerShape, shares: Sequence[float] = ()) -> list[tuple[Recipe, float]]:
    """The numerics that layers of a shape have after training, and how many of them each: ``layer.count`` in all.

    Where the method searches formats under a budget of bits, they have these in ``shares``, as a search has found them
    in a model, one for each of its formats. Without them (or where they are another search's) they have the two formats
    between whose bits the budget lies, so many of each that the mean is the budget: what is known of a deployed model
    whose sensitivities are not.
    """
    if recipe.post is None:
        return [(recipe, layer.count)]
    found = [replace(recipe, fprop=gemm, post=method) for gemm, method in candidates(recipe.post, recipe.fprop)]
    if len(found) == 1:
        return [(found[0], layer.count)]
    if len(shares) == len(found):
        return [(one, share * layer.count) for one, share in zip(found, shares, strict=True) if share]
    assert isinstance(recipe.post, AutoQuantize)
    own = sorted(((_bits(one, layer), one) for one in found), key=lambda pair: pair[0])
    (few, low), (many, high) = next((pair for pair in pairwise(own) if recipe.post.bits <= pair[1][0]), own[-2:])
    share = min(max((many - recipe.post.bits) / (many - few), 0.0), 1.0) if many > few else 1.0
    return [(low, share * layer.count), (high, (1 - share) * layer.count)]


def _bits(recipe: Recipe, layer: LayerShape) -> float:
    """Bits per weight of one layer."""
    assert recipe.post is not None
    beside = recipe.post.beside(recipe.fprop, layer.outputs, layer.inputs)
    return stored_bits(recipe.fprop.rhs, layer.outputs, layer.inputs) + beside / (layer.outputs * layer.inputs)


def deployed_layers(
    recipe: Recipe, layers: Sequence[LayerShape], shares: Sequence[float] = ()
) -> list[tuple[Recipe, LayerShape]]:
    """The layers with their numerics, ``by_layer``; after training each with the method that rounds its weights.

    A search's budget is that of all layers which other methods do not quantize, so that what the recipe leaves in 16
    bits takes from it; it is not looked at with the ``shares`` that a search has found.
    """
    post, found = recipe.post, by_layer(recipe, layers)
    if post is None:
        return found
    made = [(replace(own, post=own.post or post), layer) for own, layer in found]
    if not isinstance(post, AutoQuantize):
        return made
    mine = [(own, layer) for own, layer in made if own.post == post]
    searched = [(own, layer) for own, layer in mine if len(candidates(post, own.fprop)) not in (1, len(shares))]
    size = sum(layer.weights for _, layer in searched)
    if not size or len(searched) == len(mine):
        return made
    fixed = sum(
        number * _bits(one, layer) * layer.outputs * layer.inputs
        for own, layer in mine
        if (own, layer) not in searched
        for one, number in by_format(own, layer, shares)
    )
    left = post.bits * sum(layer.weights for _, layer in mine) - fixed
    narrowed = replace(post, bits=max(left / size, 1e-9))
    return [(replace(own, post=narrowed) if (own, layer) in searched else own, layer) for own, layer in made]


def weight_bits(recipe: Recipe, layers: Iterable[LayerShape] = LLAMA3_8B, shares: Sequence[float] = ()) -> float:
    """Bits per weight of a model's linears after training: ``stored_bits``, and what the method keeps beside them.

    ``shares``: as for ``by_format``.
    """
    shapes = tuple(layers)
    after = recipe if recipe.post else replace(recipe, post=Rtn())
    bits = sum(
        number * _bits(one, layer) * layer.outputs * layer.inputs
        for own, layer in deployed_layers(after, shapes, shares)
        for one, number in by_format(own, layer, shares)
    )
    return bits / sum(layer.weights for layer in shapes)


__all__ = ["by_format", "deployed_layers", "weight_bits"]
