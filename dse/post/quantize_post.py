"""``quantize_post`` makes a model with quantized weights of a trained one, for inference."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from dse.errors import CalibrationError, UserError, nearest
from dse.nn.attention import QuantizedAttention
from dse.nn.kinds import is_first, kind_of
from dse.nn.select import attentions, checked, choice, holders, refuse, require_some, swap
from dse.numerics.block import BlockQuantizer
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe, override
from dse.numerics.techniques.post import PostTraining
from dse.numerics.validate import check
from dse.post.calibration import Calibration, check_statistics, input_statistics
from dse.post.layers import PostQuantizedConv2d, PostQuantizedLinear, quantize_weight
from dse.recipes import RECIPES

Method = PostTraining | str | Mapping[str, Any]
"""A post-training method: an object, its name, or {name: {option: value}}."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer that is quantized: itself, its numerics, its method, and the number of its random stream."""

    module: nn.Linear | nn.Conv2d
    recipe: Recipe
    method: PostTraining
    index: int

    @property
    def calibrates(self) -> bool:
        return self.method.calibrates and isinstance(self.recipe.fprop.rhs, BlockQuantizer)


def quantize_post(
    model: nn.Module,
    method: Method,
    calibration: Calibration | None = None,
    recipe: Recipe | str = "mxfp4",
    exempt: Sequence[str] | str = (),
    *,
    seed: int = 0,
) -> nn.Module:
    """A copy of a trained model whose layers multiply quantized weights, for inference; the model stays as it is.

    - ``method``: how weights are quantized (``dse recipes --options`` lists them): ``rtn``, ``gptq``,
      ``{"gptq": {"scales": "shrunk"}}``;
    - ``calibration``: inputs of the model (tensors, tuples of arguments, mappings of keywords), or a function that runs
      the model it is given; methods that look at no activations need none;
    - ``recipe``: formats, blocks and rotation of activations and weights: the forward GEMM of a recipe;
    - ``exempt``: patterns of names of layers that stay as they are; ``seed``: of random bits, drawn once.

    ``nn.Linear`` and ``nn.Conv2d`` (without groups, padded with zeros) are quantized, and attention where the recipe
    says so. Statistics are taken in the model as it was trained, all in one go: memory for K^2 doubles per layer.

    Raises UserError for a model with layers that cannot be quantized and are not exempt, OptionError for a method that
    the recipe cannot have, CalibrationError for too little calibration data, activations that are not finite, and
    layers that it never reaches.

    >>> from torch import nn
    >>> trained, inputs = nn.Sequential(nn.Linear(64, 32)), torch.randn(128, 64)
    >>> quantize_post(trained, "gptq", [inputs], "nvfp4_plain")
    Sequential(
      (0): PostQuantizedLinear(in_features=64, out_features=32)
    )
    """
    recipe = with_method(recipe, method)
    layers = _layers(model, recipe, exempt)
    needed = {name: layer.module for name, layer in layers.items() if layer.calibrates}
    if needed and calibration is None:
        raise CalibrationError(f"{_name(recipe)} looks at activations: give calibration data")
    found: Mapping[str, InputStatistics] = {}
    if calibration is not None and needed:
        found = input_statistics(model, needed, calibration, max(layer.method.keeps for layer in layers.values()))
    return quantize_with(model, recipe, found, exempt, seed=seed)


def with_method(recipe: Recipe | str, method: Method) -> Recipe:
    """The recipe with a post-training method, checked. Raises UserError for an unknown recipe or method."""
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise UserError(f"unknown recipe {recipe!r}{nearest(recipe, RECIPES)}")
        recipe = RECIPES[recipe]
    recipe = replace(recipe, post=method) if isinstance(method, PostTraining) else override(recipe, "post", method)
    check(recipe)
    return recipe


def calibrated_layers(model: nn.Module, recipe: Recipe, exempt: Sequence[str] | str = ()) -> dict[str, nn.Module]:
    """The layers whose inputs a recipe's method looks at, by name."""
    return {name: layer.module for name, layer in _layers(model, recipe, exempt).items() if layer.calibrates}


def quantize_with(
    model: nn.Module,
    recipe: Recipe,
    statistics: Mapping[str, InputStatistics],
    exempt: Sequence[str] | str = (),
    *,
    seed: int = 0,
) -> nn.Module:
    """``quantize_post`` from statistics that have been taken: many configurations share them."""
    made = copy.deepcopy(model).eval().requires_grad_(False)
    found = choice(made, recipe, exempt=checked(made, exempt))
    swapped: dict[Any, nn.Module] = {}
    with torch.no_grad():
        for name, layer in _layers(made, recipe, exempt).items():
            inputs = None
            if layer.calibrates:
                inputs = check_statistics(name, layer.module.weight[0].numel(), statistics)
            swapped[layer.module] = _quantized(name, layer, inputs, seed)
    order, device = attentions(made), next(made.parameters()).device
    swapped |= {core: QuantizedAttention(core, own, order[core]).to(device) for core, own in found.cores.items()}
    swap(made, swapped)
    return made.eval()


def _quantized(name: str, layer: _Layer, inputs: InputStatistics | None, seed: int) -> nn.Module:
    module, gemm = layer.module, layer.recipe.fprop
    key = Key(torch.tensor([seed, 0], device=module.weight.device), layer.index, sampling=False)
    try:
        made = quantize_weight(module.weight.flatten(1), gemm, layer.method, inputs, key)
    except CalibrationError as error:
        raise CalibrationError(f"layer {name}: {error}") from None
    if isinstance(module, nn.Conv2d):
        return PostQuantizedConv2d(module, made, gemm, key)
    return PostQuantizedLinear(module, made, gemm, key)


def _layers(model: nn.Module, recipe: Recipe, exempt: Sequence[str] | str) -> dict[str, _Layer]:
    """The layers that are quantized, by their first name. Raises UserError for others that are not exempt."""
    exempt = checked(model, exempt)
    found = choice(model, recipe, exempt=exempt)
    require_some(model, found)
    named = {name: module for name, module in holders(model) if kind_of(module)}
    others = "post-training quantization covers nn.Linear and zero-padded nn.Conv2d without groups"
    kept = {name: module for name, module in named.items() if module in found.kept}
    refused = {name: others for name, module in kept.items() if not is_first(module)}
    refuse(model, {**refused, **found.refused}, "exempt them with exempt={patterns}")
    layers: dict[str, _Layer] = {}
    done = set()
    for name, module in kept.items():
        if is_first(module) and module not in done:
            own = found.recipes[module]
            method = own.post or recipe.post
            assert method is not None
            layers[name] = _Layer(module, own, method, found.kept[module])
            done.add(module)
    return layers


def _name(recipe: Recipe) -> str:
    return type(recipe.post).__name__ if recipe.post else recipe.name


__all__ = ["Method", "calibrated_layers", "quantize_post", "quantize_with", "with_method"]
