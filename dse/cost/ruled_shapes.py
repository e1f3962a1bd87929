"""Which numerics each linear of a deployed model has, where a recipe has rules about layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dse.cost.shapes import LayerShape
from dse.numerics.layer_choice import LayerPlace
from dse.numerics.recipe import Recipe, Rule
from dse.recipes.bf16 import BF16

_ORDER = ("attention.q", "attention.k", "attention.v", "attention.o", "ffn.gate", "ffn.up", "ffn.down")
"""The linears of a block in a model's order, by which rules count the first and last layers."""


def by_layer(recipe: Recipe, layers: Sequence[LayerShape]) -> list[tuple[Recipe, LayerShape]]:
    """The layers with their numerics; a shape of which rules decide differently is split, with its share of the count.

    What a rule leaves as it is counts as BF16. Without rules, and for a shape of no known model, all have the recipe's
    own numerics; ``exempt`` is not looked at, because these models are counted without their heads.
    """
    if not recipe.layers:
        return [(recipe, layer) for layer in layers]
    seats = _seats(layers)
    found = []
    for layer in layers:
        rules: dict[Rule | None, int] = {} if layer.roles else {None: layer.count}
        for place in seats.get(layer, ()):
            rule = recipe.rule(place)
            rules[rule] = rules.get(rule, 0) + 1
        found += [_part(recipe, layer, rule, count) for rule, count in rules.items()]
    return found


def core_by_layer(recipe: Recipe, product: LayerShape, blocks: int) -> list[tuple[Recipe, LayerShape]]:
    """A product of attention with the numerics that it has in each block, as ``by_layer``."""
    if not recipe.layers:
        return [(recipe, product)]
    rules: dict[Rule | None, int] = {}
    for block in range(blocks):
        name = f"blocks.{block}.attention.core"
        rule = recipe.rule(LayerPlace(name, ("core",), block=block, blocks=blocks))
        rules[rule] = rules.get(rule, 0) + product.count // blocks
    return [_part(recipe, product, rule, count) for rule, count in rules.items()]


def blocks_of(layers: Sequence[LayerShape]) -> int:
    """The number of blocks of a model; 1 where none is known."""
    return max((layer.count // len(layer.roles) for layer in layers if layer.roles), default=1)


def _part(recipe: Recipe, layer: LayerShape, rule: Rule | None, count: int) -> tuple[Recipe, LayerShape]:
    own = recipe.under(rule)
    by = f"rule {rule.name}" if rule else "no rule"
    some = f"{count} of {layer.count}, " if count < layer.count else ""
    return own or BF16, replace(layer, name=f"{layer.name} ({some}{by})", count=count)


def _seats(layers: Sequence[LayerShape]) -> dict[LayerShape, list[LayerPlace]]:
    """The places of the linears of each shape, as rules see them."""
    shapes = {role: layer for layer in layers for role in layer.roles}
    found: dict[LayerShape, list[LayerPlace]] = {}
    blocks = blocks_of(layers)
    for index, (block, role) in enumerate(_in_order(blocks, shapes)):
        kind, _, own = role.partition(".")
        layer = shapes[role]
        size = layer.inputs * layer.outputs
        place = LayerPlace(
            f"blocks.{block}.{role}", ("linear", kind, own), index, blocks * len(shapes), block, blocks, size
        )
        found.setdefault(layer, []).append(place)
    return found


def _in_order(blocks: int, shapes: dict[str, LayerShape]) -> Iterator[tuple[int, str]]:
    for block in range(blocks):
        yield from ((block, role) for role in _ORDER if role in shapes)


__all__ = ["blocks_of", "by_layer", "core_by_layer"]
