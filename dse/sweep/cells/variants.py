"""Variants: each recipe of a sweep with a combination of numerics options. A sweep crosses them with its settings."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dse.errors import OptionError
from dse.numerics.recipe import Recipe
from dse.recipes import RECIPES
from dse.sweep.cells.canonical import RecipeSerializer
from dse.sweep.cells.settings import AxisValue
from dse.sweep.definition.axes import NUMERICS, Dimension
from dse.sweep.definition.baselines import Baseline
from dse.sweep.definition.entries import RecipeEntry
from dse.sweep.definition.spec import Spec
from dse.sweep.language.labels import Label
from dse.sweep.language.layer_rules import with_names
from dse.sweep.language.numerics import InvalidSettings, OptionSetting, OverrideCache, quantized_points
from dse.sweep.language.ranges import Range


@dataclass(frozen=True, eq=False)
class Variant:
    """A recipe with its values on the axes; ``data`` is its canonical form, ``text`` that as canonical JSON.

    ``name`` is its label on the axis of recipes. ``reason``: why it cannot exist, or empty.
    """

    name: str
    recipe: Recipe
    labels: Mapping[str, Label]
    data: Any = None
    text: str = ""
    reason: str = ""


class VariantCache:
    """Makes variants, each once, and records which values some recipe could take."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._known = {**RECIPES, **{entry.recipe.name: entry.recipe for entry in spec.recipes}}
        self._made: dict[tuple[Any, ...], Variant] = {}
        self._combinations: dict[RecipeEntry, OverrideCache] = {}
        self._serializer = RecipeSerializer()
        self._taken: set[tuple[str, Label]] = set()
        self._errors: dict[tuple[str, Label], tuple[int, OptionError]] = {}

    def get(self, entry: RecipeEntry, values: Sequence[AxisValue]) -> Variant:
        """The recipe with the values of numerics axes."""
        keys = [(value.path, value.label) for value in values]
        made = self._made.get((entry, *keys))
        if made is None:
            made = self._made[(entry, *keys)] = self._make(entry, values, keys)
        return made

    def for_baseline(self, baseline: Baseline) -> Variant:
        """A baseline. It has the label of its recipe where all that it changes stands on an axis, else its own name."""
        shown = {path: label for path, label in baseline.labels.items() if path in self._spec.paths}
        name = baseline.base if len(shown) == len(baseline.labels) else baseline.name
        labels = {path: label for path, label in shown.items() if not path.startswith("training.")}
        return Variant(name, baseline.recipe, labels, *self._serializer.serialize(baseline.recipe))

    def check_all_used(self, dimensions: Sequence[Dimension]) -> None:
        """Raises UserError (file:line) for a numerics path or a value that had no meaning for any recipe."""
        for dimension in dimensions:
            for axis in dimension.axes:
                if axis.kind != NUMERICS:
                    continue
                labels = (axis.values.low, axis.values.high) if isinstance(axis.values, Range) else axis.labels
                for index, label in enumerate(labels):
                    key = axis.path, label
                    if key in self._taken:
                        continue
                    if key in self._errors:
                        raise axis.location_of(index).error(f"{dimension.section}: {self._errors[key][1]}")
                    text = f"{axis.path} varies no recipe"
                    if self._spec.fixed:
                        text += f": the baseline {self._spec.fixed!r} stays as it is"
                    raise axis.at.error(f"{dimension.section}: {text}")

    def _make(self, entry: RecipeEntry, values: Sequence[AxisValue], keys: Sequence[tuple[str, Label]]) -> Variant:
        if entry not in self._combinations:
            self._combinations[entry] = OverrideCache(entry.recipe)
        labels, name = dict(keys), entry.recipe.name
        try:
            settings: dict[Hashable, OptionSetting] = {
                key: (p.path, p.value) for key, p in zip(keys, values, strict=True)
            }
            recipe = self._combinations[entry].get(with_names(settings, self._known))
        except InvalidSettings as unusable:
            for key in keys:
                if key not in unusable.failures:
                    self._taken.add(key)
                elif key not in self._taken:  # the recipe with the most quantizers knows best what is wrong
                    rank = quantized_points(entry.recipe)
                    if key not in self._errors or self._errors[key][0] < rank:
                        self._errors[key] = rank, unusable.failures[key]
            return Variant(name, entry.recipe, labels, reason=str(unusable))
        self._taken.update(keys)
        return Variant(name, recipe, labels, *self._serializer.serialize(recipe))
