"""The GEMMs of a deployed model under a recipe: each linear with its numerics, fused and split as it would run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from dse.cost.models.model import Deployed, Linear
from dse.cost.ruled_shapes import exempt_core
from dse.cost.shapes import LayerShape
from dse.numerics.layer_choice import Exempt, LayerPlace
from dse.numerics.recipe import Recipe
from dse.recipes.bf16 import BF16


@dataclass(frozen=True)
class Placed:
    """Equal GEMMs of a model: their numerics, their shape on one GPU, and how they are grouped.

    ``shape.count``: how often one such call is made per step; ``experts``: matrices of a call, each of ``shape``.
    """

    recipe: Recipe
    shape: LayerShape
    experts: int = 1

    @property
    def parameters(self) -> int:
        """Elements of the matrices on one GPU."""
        return self.shape.inputs * self.shape.outputs * self.experts * self.shape.count


def placed(recipe: Recipe, model: Deployed) -> tuple[Placed, ...]:
    """The GEMMs of the model's blocks; what the recipe exempts or a rule leaves is BF16.

    Linears of one block that read the same X with equal numerics are one GEMM, its outputs those of all.
    """
    count: Counter[Placed] = Counter()
    for group, times in _groups(recipe, model):
        count[group] += times
    return tuple(Placed(one.recipe, _times(one.shape, times), one.experts) for one, times in count.items())


def core_numerics(recipe: Recipe, model: Deployed) -> Counter[tuple[str, Recipe]]:
    """(kind of block, numerics of its attention's products) -> how many blocks have them."""
    found: Counter[tuple[str, Recipe]] = Counter()
    seats = _seats(model) if recipe.exempt != Exempt() else {}
    for number, kind in enumerate(model.blocks):
        if model.kinds[kind].core is not None:
            place = LayerPlace(f"blocks.{number}.attention.core", ("core",), block=number, blocks=len(model.blocks))
            beside = [own for own in seats.get(number, ()) if "attention" in own.kinds]
            exempt = exempt_core(recipe.exempt, place, beside)
            found[kind, (None if exempt else recipe.at(place)) or BF16] += 1
    return found


def _seats(model: Deployed) -> dict[int, list[LayerPlace]]:
    """The places of the linears of each block, as rules see them."""
    found: dict[int, list[LayerPlace]] = {}
    total = sum(len(model.kinds[kind].linears) for kind in model.blocks)
    index = 0
    for number, kind in enumerate(model.blocks):
        for linear in model.kinds[kind].linears:
            name, size = f"blocks.{number}.{linear.role}", linear.parameters
            place = LayerPlace(name, linear.kinds, index, total, number, len(model.blocks), size)
            found.setdefault(number, []).append(place)
            index += 1
    return found


def _groups(recipe: Recipe, model: Deployed) -> Iterator[tuple[Placed, int]]:
    """The GEMMs of every block, or of one block of each kind and their number where all layers have one numerics."""
    counts = Counter(model.blocks)
    alike = not recipe.layers and recipe.exempt == Exempt()
    total = sum(len(model.kinds[kind].linears) * times for kind, times in counts.items())
    index = 0
    for number, kind in enumerate(dict.fromkeys(model.blocks) if alike else model.blocks):
        groups: dict[str, dict[Recipe, list[Linear]]] = {}
        for linear in model.kinds[kind].linears:
            name = f"blocks.{number}.{linear.role}"
            place = LayerPlace(name, linear.kinds, index, total, number, len(model.blocks), linear.parameters)
            own = BF16 if linear.exact else recipe.at(place) or BF16
            groups.setdefault(linear.source or linear.role, {}).setdefault(own, []).append(linear)
            index += 1
        for one in groups.values():
            yield from ((_fused(own, linears, model), counts[kind] if alike else 1) for own, linears in one.items())


def _fused(recipe: Recipe, linears: list[Linear], model: Deployed) -> Placed:
    """One GEMM of linears that read the same X, on one GPU."""
    first, parallel = linears[0], model.tensor_parallel
    inputs = first.inputs // (parallel if first.split == "inputs" else 1)
    outputs = sum(one.outputs // (parallel if one.split == "outputs" else 1) for one in linears)
    rows = model.tokens if first.rows == "token" else max(model.tokens // model.sequence, 1)
    name, experts = " + ".join(one.role for one in linears), 1
    if first.experts > 1:
        experts = first.experts // model.expert_parallel
        rows = -(-rows * first.top_k * model.expert_parallel // first.experts)
    return Placed(recipe, LayerShape(name, rows, inputs, outputs), experts)


def _times(shape: LayerShape, count: int) -> LayerShape:
    return LayerShape(shape.name, shape.tokens, shape.inputs, shape.outputs, count, shape.roles)


__all__ = ["Placed", "core_numerics", "placed"]
