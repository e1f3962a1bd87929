"""Memory that a recipe takes beside BF16 training, on one GPU."""

from __future__ import annotations

from typing import NamedTuple

from dse.cost.models import Deployed, Placed, placed
from dse.cost.point_counts import blocks
from dse.cost.roofline.codes import code_bytes
from dse.cost.sharing import codes_from
from dse.cost.training_phases import training_phases
from dse.numerics.block import BlockQuantizer
from dse.numerics.recipe import Recipe


class ExtraMemory(NamedTuple):
    """Bytes on one GPU: codes of weights and a weight rule's state, held beside the master weights; and what saved
    activations take more (below 0: less) than in BF16."""

    weights: float
    activations: float


def extra_memory(recipe: Recipe, model: Deployed) -> ExtraMemory:
    """Codes are kept from the forward to the backward pass: X as wgrad reads it, W in both directions.

    With a schedule: of the phase that takes most, for a GPU has to hold each of them. Nothing where a recipe quantizes
    after a training in BF16.
    """
    if recipe.post is not None:
        return ExtraMemory(0.0, 0.0)
    return max((_in_phase(one.recipe, model) for one in training_phases(recipe)), key=sum)


def _in_phase(recipe: Recipe, model: Deployed) -> ExtraMemory:
    parts = placed(recipe, model)
    weights, activations = (sum(own(one) for one in parts) for own in (_weights, _activations))
    return ExtraMemory(weights, activations)


def _weights(one: Placed) -> float:
    found = sum(_codes(one, point) for point in ("fprop.rhs", "dgrad.rhs") if not codes_from(one.recipe, point))
    state = 4.0 * one.parameters if one.recipe.weights is not None else 0.0
    return found * one.experts * one.shape.count + state


def _activations(one: Placed) -> float:
    codes = _codes(one, "wgrad.rhs")
    plain = 2.0 * one.shape.size("X")
    return (codes - plain) * one.experts * one.shape.count if codes else 0.0


def _codes(one: Placed, point: str) -> float:
    """Bytes of the codes and scales at a point."""
    quantizer = one.recipe.quantizer(point)
    if not isinstance(quantizer, BlockQuantizer):
        return 0.0
    scales = blocks(one.shape, point, quantizer)[0]
    elements = one.shape.size("W" if point != "wgrad.rhs" else "X")
    return code_bytes(quantizer, elements, scales)


__all__ = ["ExtraMemory", "extra_memory"]
