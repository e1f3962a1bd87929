"""Which numerics each linear of a deployed model has, where a recipe has rules about layers or leaves some out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dse.cost.shapes import LayerShape
from dse.numerics.layer_choice import Exempt, LayerPlace
from dse.numerics.recipe import Recipe, Rule
from dse.recipes.bf16 import BF16

_ORDER = ("attention.q", "attention.k", "attention.v", "attention.o", "ffn.gate", "ffn.up", "ffn.down")
"""The linears of a block in a model's order, by which rules count the first and last layers."""


def by_layer(recipe: Recipe, layers: Sequence[LayerShape]) -> list[tuple[Recipe, LayerShape]]:
    """The layers with their numerics; a shape of which rules decide differently is split, with its share of the count.

    What ``exempt`` or a rule leaves as it is counts as BF16: ``first`` and ``last`` in the order of the model's
    linears, names as ``blocks.0.attention.q``. Without either, and for a shape of no known model, all have the recipe's
    own numerics. These models are counted without their heads.
    """
    if not recipe.layers and recipe.exempt == Exempt():
        return [(recipe, layer) for layer in layers]
    seats = _seats(layers)
    found = []
    for layer in layers:
        parts: dict[tuple[bool, Rule | None], int] = {} if layer.roles else {(False, None): layer.count}
        for place in seats.get(layer, ()):
            exempt = recipe.exempt.covers(place.index, place.count, place.name)
            part = exempt, None if exempt else recipe.rule(place)
            parts[part] = parts.get(part, 0) + 1
        found += [_part(recipe, layer, part, count) for part, count in parts.items()]
    return found


def core_by_layer(recipe: Recipe, product: LayerShape, layers: Sequence[LayerShape]) -> list[tuple[Recipe, LayerShape]]:
    """A product of attention with the numerics that it has in each block, as ``by_layer``.

    It is exempt by its name, and where all projections of its attention are.
    """
    if not recipe.layers and recipe.exempt == Exempt():
        return [(recipe, product)]
    blocks, parts = blocks_of(layers), dict[tuple[bool, Rule | None], int]()
    seats = [place for own in _seats(layers).values() for place in own if "attention" in place.kinds]
    for block in range(blocks):
        place = LayerPlace(f"blocks.{block}.attention.core", ("core",), block=block, blocks=blocks)
        exempt = exempt_core(recipe.exempt, place, [own for own in seats if own.block == block])
        part = exempt, None if exempt else recipe.rule(place)
        parts[part] = parts.get(part, 0) + product.count // blocks
    return [_part(recipe, product, part, count) for part, count in parts.items()]


def exempt_core(exempt: Exempt, core: LayerPlace, beside: Sequence[LayerPlace]) -> bool:
    """Whether a recipe leaves the products of an attention: by their name, or with all linears beside them."""
    named = exempt.named(core.name) is not None
    return named or (bool(beside) and all(exempt.covers(own.index, own.count, own.name) for own in beside))


def blocks_of(layers: Sequence[LayerShape]) -> int:
    """The number of blocks of a model; 1 where none is known."""
    return max((layer.count // len(layer.roles) for layer in layers if layer.roles), default=1)


def _part(recipe: Recipe, layer: LayerShape, part: tuple[bool, Rule | None], count: int) -> tuple[Recipe, LayerShape]:
    exempt, rule = part
    own = None if exempt else recipe.under(rule)
    by = "exempt" if exempt else f"rule {rule.name}" if rule else "no rule" if recipe.layers else "not exempt"
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


__all__ = ["blocks_of", "by_layer", "core_by_layer", "exempt_core"]
