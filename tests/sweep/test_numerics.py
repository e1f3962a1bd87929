"""Several options at once: which one wins, and which combinations exist."""

import pytest

from dse.errors import OptionError
from dse.recipe import override
from dse.recipes import RECIPES
from dse.sweep.numerics import Unusable, apply, combinations
from dse.techniques.rounding import Stochastic

MXFP4, FP32 = RECIPES["mxfp4"], RECIPES["fp32"]


def test_the_more_specific_setting_wins_in_any_order() -> None:
    settings = [("*.rounding", "stochastic"), ("G.rounding", "nearest_even"), ("wgrad.lhs.rounding", "up")]
    recipe = apply(MXFP4, settings)
    assert recipe == apply(MXFP4, settings[::-1])
    assert recipe == override(override(override(MXFP4, *settings[0]), *settings[1]), *settings[2])


def test_a_whole_object_is_set_before_its_parts() -> None:
    recipe = apply(FP32, [("*.rounding", "stochastic"), ("fprop.lhs", "block")])
    assert recipe.fprop.lhs == override(FP32, "fprop.lhs", {"block": {"rounding": "stochastic"}}).fprop.lhs
    assert recipe.fprop.rhs == FP32.fprop.rhs


def test_a_setting_that_does_not_fit_yet_waits_for_the_others() -> None:
    """A constant of 100 exceeds E2M1's largest value, not E4M3's."""
    settings = [("*.constant", 100.0), ("W.constant", 200.0), ("*.element", "e4m3")]
    with pytest.raises(OptionError):
        override(MXFP4, *settings[0])
    recipe = apply(MXFP4, settings)
    assert recipe == apply(MXFP4, settings[::-1])
    assert [recipe.quantizer(p).constant for p in ("fprop.lhs", "fprop.rhs")] == [100.0, 200.0]


def test_failures_are_named_by_position() -> None:
    with pytest.raises(Unusable, match=r"'block' has no meaning") as caught:
        apply(FP32, [("wgrad.rotation", "hadamard"), ("*.block", 4)])
    assert list(caught.value.failures) == [1]


def test_combinations_are_those_of_the_product() -> None:
    axes = [("G.rounding", ["nearest_even", "stochastic"]), ("*.block", [8, 16, -1]), ("G.rounding.bits", [4])]
    found = dict(combinations(MXFP4, axes))
    assert list(found) == [(i, j, 0) for i in range(2) for j in range(3)]
    assert {key for key, recipe in found.items() if isinstance(recipe, Unusable)} == {
        (0, 0, 0), (0, 1, 0), (0, 2, 0), (1, 2, 0),
    }  # fmt: skip
    assert found[1, 1, 0] == apply(MXFP4, [("G.rounding", {"stochastic": {"bits": 4}}), ("*.block", 16)])
    assert found[1, 0, 0].dgrad.lhs.rounding == Stochastic(4)
