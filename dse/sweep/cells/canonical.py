"""Canonical JSON of recipes, as identities are hashed from it.

The recipes of a sweep share most of their parts, so each part is serialized once.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from dse.numerics.gemm import Gemm
from dse.numerics.recipe import GEMMS, RECIPE_OPTIONS, Recipe
from dse.numerics.registry import to_data

_PLAIN = Gemm()

SerializedRecipe = tuple[Any, str]
"""Plain data, and the same as canonical JSON."""


def canonical(data: Any) -> str:
    """Plain data as JSON that is the same for the same content, as identities need it."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


class RecipeSerializer:
    """Serializes recipes, with a cache of their parts: looked up by object identity first, then by value."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Gemm, SerializedRecipe]] = {}
        self._gemms: dict[Gemm, SerializedRecipe] = {}
        self._rest: dict[tuple[Any, ...], dict[str, SerializedRecipe]] = {}

    def serialize(self, recipe: Recipe) -> SerializedRecipe:
        """The data that `to_data` gives, and its canonical JSON (a test holds both)."""
        found = {name: self._gemm(getattr(recipe, name)) for name in GEMMS if getattr(recipe, name) != _PLAIN}
        found |= self._options(recipe)
        text = ",".join(f'"{key}":{found[key][1]}' for key in sorted(found))
        return {key: data for key, (data, _) in found.items()}, f"{{{text}}}"

    def _gemm(self, gemm: Gemm) -> SerializedRecipe:
        seen = self._seen.get(id(gemm))
        if seen is None:
            known = self._gemms.get(gemm)
            if known is None:
                data = to_data(gemm)
                known = self._gemms[gemm] = data, canonical(data)
            seen = self._seen[id(gemm)] = gemm, known  # holds the object, so that its id stays its own
        return seen[1]

    def _options(self, recipe: Recipe) -> dict[str, SerializedRecipe]:
        """The options of the recipe as a whole."""
        key = tuple(getattr(recipe, name) for name in RECIPE_OPTIONS)
        if key not in self._rest:
            data = to_data(replace(recipe, fprop=_PLAIN, dgrad=_PLAIN, wgrad=_PLAIN))
            self._rest[key] = {name: (value, canonical(value)) for name, value in data.items()}
        return self._rest[key]
