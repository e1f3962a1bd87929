"""``quantize_post`` makes a model with quantized weights of a trained one, for inference."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from dse.errors import CalibrationError, UserError, nearest
from dse.nn.attention import QuantizedAttention
from dse.nn.convert import carry_hooks
from dse.nn.coverage import note
from dse.nn.layers.encoder import keep_from_fusing
from dse.nn.select import attentions, checked, choice, swap
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.recipe import Recipe, override
from dse.numerics.registry import FAMILIES
from dse.numerics.techniques.post import PostTraining
from dse.numerics.validate import check
from dse.post.bit_budget import choose
from dse.post.calibration import Calibration, check_statistics, input_statistics
from dse.post.chosen_layers import check_weights, chosen_layers, left_weights
from dse.post.sensitivity import FormatScores, question, sensitivities
from dse.recipes import RECIPES

Method = PostTraining | str | Mapping[str, Any]
"""A post-training method: an object, its name, or {name: {option: value}}."""


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
      the model it is given (for ``autoquantize``: and returns the loss); methods that look at no activations need
      none;
    - ``recipe``: formats, blocks and rotation of activations and weights: the forward GEMM of a recipe;
    - ``exempt``: patterns of names of layers that stay as they are; ``seed``: of random bits, drawn once.

    ``nn.Linear`` and ``nn.Conv2d`` (without groups, padded with zeros) are quantized, and attention where the recipe
    says so. Statistics are taken in the model as it was trained, all in one go: memory for K^2 doubles per layer.

    Hooks of layers stay, and ``dse.coverage`` tells what became of each.

    Raises UserError for a model with layers that cannot be quantized and are not exempt, and for weights that are not
    finite, OptionError for a method that the recipe cannot have, CalibrationError for too little calibration data,
    activations that are not finite, and layers that it never reaches.

    >>> from torch import nn
    >>> trained, inputs = nn.Sequential(nn.Linear(64, 32)), torch.randn(128, 64)
    >>> quantize_post(trained, "gptq", [inputs], "nvfp4_plain")
    Sequential(
      (0): PostQuantizedLinear(in_features=64, out_features=32)
    )
    """
    recipe = with_method(recipe, method)
    layers = chosen_layers(model, recipe, exempt)
    check_weights(layers)
    needed = {name: layer.module for name, layer in layers.items() if layer.calibrates}
    searched = bool(question(model, recipe, exempt))
    if (needed or searched) and calibration is None:
        raise CalibrationError(f"{_name(recipe)} looks at activations: give calibration data")
    if needed and searched and isinstance(calibration, Iterator):
        calibration = list(calibration)  # two passes
    found: Mapping[str, InputStatistics] = {}
    if calibration is not None and needed:
        found = input_statistics(model, needed, calibration, max(layer.method.keeps for layer in layers.values()))
    scores: Mapping[str, FormatScores] = {}
    if calibration is not None and searched:
        scores = sensitivities(model, recipe, calibration, found, exempt, seed=seed)
    return quantize_with(model, recipe, found, exempt, scores, seed=seed)


def with_method(recipe: Recipe | str, method: Method) -> Recipe:
    """The recipe with a post-training method, checked. Raises UserError for an unknown recipe or method."""
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise UserError(f"unknown recipe {recipe!r}{nearest(recipe, RECIPES)}")
        recipe = RECIPES[recipe]
    given: object = method
    if given in (None, "none"):
        raise UserError(f"quantize_post needs a method{nearest(given, FAMILIES[PostTraining])}")
    recipe = replace(recipe, post=method) if isinstance(method, PostTraining) else override(recipe, "post", method)
    check(recipe)
    return recipe


def calibrated_layers(model: nn.Module, recipe: Recipe, exempt: Sequence[str] | str = ()) -> dict[str, nn.Module]:
    """The layers whose inputs a recipe's method looks at, by name."""
    return {name: layer.module for name, layer in chosen_layers(model, recipe, exempt).items() if layer.calibrates}


def quantize_with(
    model: nn.Module,
    recipe: Recipe,
    statistics: Mapping[str, InputStatistics],
    exempt: Sequence[str] | str = (),
    scores: Mapping[str, FormatScores] | None = None,
    *,
    seed: int = 0,
) -> nn.Module:
    """``quantize_post`` from statistics that have been taken: many configurations share them.

    ``scores``: those of ``dse.post.sensitivity``, where a method searches formats.
    """
    made = copy.deepcopy(model).eval().requires_grad_(False)
    found = choice(made, recipe, exempt=checked(made, exempt))
    swapped: dict[Any, nn.Module] = {}
    layers = chosen_layers(made, recipe, exempt)
    check_weights(layers)
    chosen = choose(layers, scores or {}, left_weights(made, recipe, exempt), recipe.post)
    with torch.no_grad():
        for name, layer in layers.items():
            inputs = None
            if layer.calibrates:
                inputs = check_statistics(name, layer.module.weight[0].numel(), statistics)
            swapped[layer.module] = layer.quantized(name, chosen[name], inputs, seed)
    order, device = attentions(made), next(made.parameters()).device
    swapped |= {core: QuantizedAttention(core, own, order[core]).to(device) for core, own in found.cores.items()}
    carry_hooks(swapped)
    swap(made, swapped)
    keep_from_fusing(made)
    note(made, found.left, {name: rule.name for name, rule in found.ruled.items()})
    return made.eval()


def _name(recipe: Recipe) -> str:
    return type(recipe.post).__name__ if recipe.post else recipe.name


__all__ = ["Method", "calibrated_layers", "quantize_post", "quantize_with", "with_method"]
