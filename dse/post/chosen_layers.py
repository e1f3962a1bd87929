"""Which layers of a model are quantized after training, what each of them may have, and the layer that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from dse.errors import CalibrationError, UserError
from dse.nn.kinds import is_first, kind_of
from dse.nn.select import checked, choice, holders, refuse, require_some
from dse.numerics.block import BlockQuantizer
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.random import Key
from dse.numerics.recipe import Exempt, Recipe
from dse.numerics.techniques.post import LayerFormat, PostTraining, candidates
from dse.post.calibration import not_finite
from dse.post.layers import PostQuantizedConv2d, PostQuantizedLayer, PostQuantizedLinear, quantize_weight

LEFT_BITS = 16
"""Bits of a weight that a recipe leaves as it was trained: in BF16."""


@dataclass(frozen=True, eq=False)
class ChosenLayer:
    """A layer that is quantized: itself, the number of its random stream, its method, and what it may have by it."""

    module: nn.Linear | nn.Conv2d
    recipe: Recipe
    index: int
    method: PostTraining
    candidates: tuple[LayerFormat, ...]

    @property
    def calibrates(self) -> bool:
        """Whether one of the candidates looks at the layer's inputs."""
        return any(method.calibrates and isinstance(gemm.rhs, BlockQuantizer) for gemm, method in self.candidates)

    @property
    def weights(self) -> int:
        """The number of the layer's weights."""
        return self.module.weight.numel()

    def quantized(self, name: str, number: int, inputs: InputStatistics | None, seed: int) -> PostQuantizedLayer:
        """The layer under one of its candidates. Raises CalibrationError, which names it, where X does not suffice."""
        module, (gemm, method) = self.module, self.candidates[number]
        key = Key(torch.tensor([seed, 0], device=module.weight.device), self.index, sampling=False)
        if not method.calibrates:
            inputs = None
        try:
            made = quantize_weight(module.weight.flatten(1), gemm, method, inputs, key)
        except CalibrationError as error:
            raise CalibrationError(f"layer {name}: {error}") from None
        own: PostQuantizedLayer
        if isinstance(module, nn.Conv2d):
            own = PostQuantizedConv2d(module, made, gemm, key)
        else:
            own = PostQuantizedLinear(module, made, gemm, key)
        own.recipe, own.layer, own.format = self.recipe, self.index, number
        return own


def chosen_layers(model: nn.Module, recipe: Recipe, exempt: Sequence[str] | str) -> dict[str, ChosenLayer]:
    """The layers that are quantized, by their first name. Raises UserError for others that are not exempt."""
    exempt = checked(model, exempt)
    found = choice(model, recipe, exempt=exempt)
    require_some(model, found)
    named = {name: module for name, module in holders(model) if kind_of(module)}
    others = "post-training quantization covers nn.Linear and zero-padded nn.Conv2d without groups"
    kept = {name: module for name, module in named.items() if module in found.kept}
    refused = {name: others for name, module in kept.items() if not is_first(module)}
    refuse(model, {**refused, **found.refused}, "exempt them with exempt={patterns}")
    layers: dict[str, ChosenLayer] = {}
    done = set()
    for name, module in kept.items():
        if is_first(module) and module not in done:
            own = found.recipes[module]
            method = own.post or recipe.post
            if method is None:
                raise UserError(f"layer {name}: recipe {recipe.name!r} has no post-training method (post)")
            layers[name] = ChosenLayer(module, own, found.kept[module], method, candidates(method, own.fprop))
            done.add(module)
    return layers


def check_weights(layers: Mapping[str, ChosenLayer]) -> None:
    """Raises UserError, with the layer, for weights and biases that are not finite: no method can quantize them."""
    for name, layer in layers.items():
        own = [(what, getattr(layer.module, what)) for what in ("weight", "bias")]
        if found := not_finite((f"{name}.{what}", p) for what, p in own if p is not None):
            raise UserError(f"{found}: they cannot be quantized; was the training's end finite?")


def left_weights(model: nn.Module, recipe: Recipe, exempt: Sequence[str] | str) -> int:
    """Weights of the layers that would be quantized, were they not exempt by the recipe or left by one of its rules.

    ``exempt``: patterns of what is no part of the question, such as a task's head.
    """
    exempt = checked(model, exempt)
    kept = choice(model, recipe, exempt=exempt).kept
    everything = choice(model, replace(recipe, layers=(), exempt=Exempt()), exempt=exempt).kept
    return sum(layer.weight.numel() for layer in everything if layer not in kept)


__all__ = ["LEFT_BITS", "ChosenLayer", "check_weights", "chosen_layers", "left_weights"]
