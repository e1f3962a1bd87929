"""A recipe: the numerics of a linear layer's three GEMMs, and how options at its six quantization points are set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dse.errors import OptionError
from dse.numerics.layer_choice import Exempt, LayerPlace, Which
from dse.numerics.paths import SELECTORS, set_option
from dse.numerics.point_options import SAME, at_points, attention_options
from dse.numerics.points import GEMMS, POINTS
from dse.numerics.recipe_fields import RECIPE_OPTIONS, Recipe, Rule
from dse.numerics.rule_options import derived, set_rules


def override(recipe: Recipe, path: str, data: Any) -> Recipe:
    """The recipe with one option set: ``wgrad.rhs.rounding``, ``G.rounding``, ``*.block``, ``wgrad.rotation``.

    ``data`` is what YAML holds: a registry name, a mapping ``{name: {parameter: value}}``, a number or none. The same
    options of attention's products stand behind ``attention.scores``, ``attention.outputs``, or ``attention`` for both:
    ``attention.scores.G.rounding``; ``attention: same`` copies the numerics of the linears. Rules for some layers stand
    behind ``layers``: ``layers.attention`` takes a recipe, ``layers.attention.element`` an option; a rule that was made
    from the recipe's own numerics follows them when they change.
    Raises OptionError (one line: the path, what is wrong, the nearest valid choice) when a part of the path does not
    exist, the value does not fit, or the option has no meaning at any of the points because the recipe does not
    quantize them.
    """
    if not isinstance(recipe, Recipe):
        raise OptionError(f"override takes a recipe, RECIPES['nvfp4'] for example, not {recipe!r}")
    head, *rest = path.split(".")
    if head == "layers":
        return set_rules(recipe, rest, data, path, override)
    return derived(_own(recipe, head, rest, data, path), override)


def _own(recipe: Recipe, head: str, rest: list[str], data: Any, path: str) -> Recipe:
    """The recipe with an option of its own numerics set."""
    if head == "attention":
        return replace(recipe, attention=attention_options(recipe, rest, data, path))
    if head in RECIPE_OPTIONS:
        return set_option(recipe, [head, *rest], data, path)  # type: ignore[no-any-return]
    return at_points(recipe, path, data, path, RECIPE_OPTIONS)


def is_option_path(path: str) -> bool:
    """Whether a sweep axis names a numerics option (rather than a task's or the training's)."""
    return any(path == s or path.startswith(s + ".") for s in (*SELECTORS, *RECIPE_OPTIONS))


__all__ = [
    "GEMMS",
    "POINTS",
    "RECIPE_OPTIONS",
    "SAME",
    "SELECTORS",
    "Exempt",
    "LayerPlace",
    "Recipe",
    "Rule",
    "Which",
    "is_option_path",
    "override",
]
