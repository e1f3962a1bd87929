"""The canonical content of recipes that have much in common: each GEMM and the rest are translated once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from dse.gemm import Gemm
from dse.recipe import GEMMS, Recipe
from dse.registry import to_data

_PLAIN = Gemm()

Content = tuple[Any, str]
"""Plain data, and the same as canonical JSON."""


def canonical(data: Any) -> str:
    """Plain data as JSON that is the same for the same content, as identities need it."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Contents:
    """`to_data` of recipes, with its JSON. Parts are known by identity first, since most are shared, then by value."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[object, Content]] = {}
        self._known: dict[Gemm | Recipe, Content] = {}

    def of(self, recipe: Recipe) -> Content:
        """The data that `to_data` gives, and its canonical JSON (a test holds both)."""
        found: dict[str, Content] = {}
        for name in GEMMS:
            gemm: Gemm = getattr(recipe, name)
            data, text = self._part(gemm)
            if data or gemm != _PLAIN:
                found[name] = data, text
        rest, _ = self._value(replace(recipe, name="", summary="", source="", fprop=_PLAIN, dgrad=_PLAIN, wgrad=_PLAIN))
        found |= {key: (value, canonical(value)) for key, value in rest.items()}
        text = ",".join(f'"{key}":{found[key][1]}' for key in sorted(found))
        return {key: data for key, (data, _) in found.items()}, f"{{{text}}}"

    def _part(self, gemm: Gemm) -> Content:
        seen = self._seen.get(id(gemm))
        if seen is None:
            seen = self._seen[id(gemm)] = gemm, self._value(gemm)  # holds the object, so that its id stays its own
        return seen[1]

    def _value(self, part: Gemm | Recipe) -> Content:
        known = self._known.get(part)
        if known is None:
            data = to_data(part)
            known = self._known[part] = data, canonical(data)
        return known
