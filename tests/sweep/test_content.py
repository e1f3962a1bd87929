"""What cells share is translated once, and comes out as if each had been translated alone."""

import pytest

from dse.errors import OptionError
from dse.numerics.registry import to_data
from dse.recipes import RECIPES
from dse.sweep.cells.canonical import RecipeSerializer, canonical
from dse.sweep.language.numerics import apply_settings


def test_recipes_in_any_order() -> None:
    serializer = RecipeSerializer()
    recipes = list(RECIPES.values())
    for recipe in [*recipes, *recipes[::-1]]:
        data = to_data(recipe)
        assert serializer.serialize(recipe) == (data, canonical(data))
        assert list(serializer.serialize(recipe)[0]) == list(data)


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "tetrajet_q_ema", "zhou_modulewise"])
def test_options(name: str) -> None:
    serializer = RecipeSerializer()
    for settings in ([("G.rounding", "up")], [("backward", "bf16")], [("*", "bf16")], [("exempt", {"first": 1})]):
        try:
            recipe = apply_settings(RECIPES[name], settings)
        except OptionError:  # not every recipe takes every option
            continue
        assert serializer.serialize(recipe) == (to_data(recipe), canonical(to_data(recipe)))
