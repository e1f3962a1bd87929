"""A recipe in MLflow: every option of it as a parameter, and its modelled cost as metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

from dse.cost import overhead, relative_time
from dse.cost.training_phases import stated
from dse.errors import UserError
from dse.numerics.block import BlockQuantizer
from dse.numerics.points import POINTS
from dse.numerics.quantizer import Quantizer
from dse.numerics.recipe import GEMMS, RECIPE_OPTIONS, Recipe
from dse.numerics.registry import build, to_data
from dse.sweep.language.labels import text_of


def recipe_params(spec: Mapping[str, Any]) -> dict[str, str]:
    """Every option of a stored recipe: ``recipe.wgrad.lhs.block``, and over all points ``recipe.block``.

    The latter holds the values of all quantized points, each once: '16', or '16, 32'. Options at their defaults count
    too; those that are none, and points that are not quantized, are left out. Empty for a recipe whose technique is not
    known here, one of a plugin that nobody has named.
    """
    return dict(_described(json.dumps(spec, sort_keys=True)))


@lru_cache(maxsize=4096)
def _built(text: str) -> Recipe | None:
    """None for a recipe whose technique is not known here."""
    try:
        recipe: Recipe = build(Recipe, json.loads(text), "recipe")
    except UserError:
        return None
    return recipe


def recipe_costs(spec: Mapping[str, Any], steps: int = 0) -> dict[str, float]:
    """``overhead`` and ``time``, as ``dse.cost`` defines overhead (percent) and relative_time; empty as above.

    ``steps``: of the training, for schedules that act from a step on; 0: not known.
    """
    return dict(_costs(json.dumps(spec, sort_keys=True), steps))


@lru_cache(maxsize=4096)
def _costs(text: str, steps: int) -> dict[str, float]:
    recipe = _built(text)
    if recipe is None:
        return {}
    own = stated(recipe, steps) if steps else recipe
    return {"overhead": overhead(own), "time": relative_time(own)}


@lru_cache(maxsize=4096)
def _described(text: str) -> dict[str, str]:
    recipe = _built(text)
    if recipe is None:
        return {}
    params, values = dict[str, str](), dict[str, dict[str, None]]()
    for path, option, value in _options(recipe):
        params[f"recipe.{path}.{option}"] = value
        values.setdefault(option, {})[value] = None
    params |= {f"recipe.{option}": ", ".join(found) for option, found in values.items()}
    own = {name: getattr(recipe, name) for name in RECIPE_OPTIONS}
    params |= {f"recipe.{name}": text_of(to_data(value)) for name, value in own.items() if value}
    return params


def _options(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """(point or GEMM, option, value) of everything that is set."""
    for point in POINTS:
        yield from ((point, option, value) for option, value in _of_quantizer(recipe.quantizer(point)))
    for gemm in GEMMS:
        own = getattr(recipe, gemm)
        for option in ("rotation", "accumulation"):
            if getattr(own, option) is not None:
                yield gemm, option, text_of(to_data(getattr(own, option)))


def _of_quantizer(quantizer: Quantizer) -> Iterator[tuple[str, str]]:
    if isinstance(quantizer, BlockQuantizer):
        for field in fields(quantizer):
            value = getattr(quantizer, field.name)
            if value not in (None, ()):
                yield field.name, text_of(to_data(value))


__all__ = ["recipe_costs", "recipe_params"]
