"""The variants that a sweep crosses with its tasks: each recipe with each combination of the grid's numerics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dse.errors import OptionError
from dse.recipe import Recipe
from dse.registry import to_data
from dse.sweep.labels import Label
from dse.sweep.numerics import Unusable, combinations, quantized_points
from dse.sweep.settings import axis_labels
from dse.sweep.spec import NUMERICS, Axis, Spec


@dataclass(frozen=True)
class Variant:
    """A recipe with its values on the grid's axes; ``data`` is its canonical form.

    ``reason``: why it cannot exist, or empty. The baseline has no values (None) on numerics axes.
    """

    recipe: Recipe
    labels: Mapping[str, Label]
    data: Any = None
    reason: str = ""


class _Fits:
    """Which (axis, value) some recipe could take, and the most telling error of those that none could."""

    def __init__(self) -> None:
        self.taken: set[tuple[int, int]] = set()
        self.errors: dict[tuple[int, int], tuple[int, OptionError]] = {}

    def note(self, recipe: Recipe, indices: tuple[int, ...], failures: Mapping[int, OptionError]) -> None:
        for key in enumerate(indices):
            if key[0] not in failures:
                self.taken.add(key)
            elif key not in self.taken:  # the recipe with the most quantizers knows best what is wrong
                rank = quantized_points(recipe)
                if key not in self.errors or self.errors[key][0] < rank:
                    self.errors[key] = rank, failures[key[0]]


def variants_of(spec: Spec) -> tuple[Variant, list[Variant]]:
    """The baseline, and every other recipe with every combination of numerics axes.

    Raises UserError (file:line) for a path or a value that has no meaning for any recipe.
    """
    axes, fits = spec.of_kind(NUMERICS), _Fits()
    found = []
    for entry in spec.recipes:
        if entry is spec.baseline:
            continue
        for indices, outcome in combinations(entry.recipe, [(axis.path, axis.values) for axis in axes]):
            labels = axis_labels(axes, indices)
            if isinstance(outcome, Unusable):
                fits.note(entry.recipe, indices, outcome.failures)
                found.append(Variant(entry.recipe, labels, reason=str(outcome)))
            else:
                fits.note(entry.recipe, indices, {})
                found.append(Variant(outcome, labels, to_data(outcome)))
    for position, axis in enumerate(axes):
        _refuse_useless(spec, fits, position, axis)
    baseline = spec.baseline.recipe
    return Variant(baseline, {axis.path: None for axis in axes}, to_data(baseline)), found


def _refuse_useless(spec: Spec, fits: _Fits, position: int, axis: Axis) -> None:
    for index in range(len(axis.values)):
        key = position, index
        if key in fits.taken:
            continue
        if key in fits.errors:
            raise spec.source.error((*axis.place, index), f"grid: {fits.errors[key][1]}")
        text = f"grid: {axis.path} varies no recipe: the baseline {spec.baseline.recipe.name!r} stays as it is"
        raise spec.source.error(axis.place, text)
