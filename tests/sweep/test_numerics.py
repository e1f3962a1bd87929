"""Several options at once: which one wins, and which combinations exist."""

from collections.abc import Callable, Hashable
from itertools import product
from typing import Any

import pytest

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import BFloat16
from dse.numerics.recipe import Recipe, override
from dse.numerics.techniques.rounding import Stochastic
from dse.recipes import RECIPES
from dse.sweep.language.numerics import InvalidSettings, OverrideCache, apply_settings

MXFP4, FP32 = RECIPES["mxfp4"], RECIPES["fp32"]


def test_the_more_specific_setting_wins_in_any_order() -> None:
    settings = [("*.rounding", "stochastic"), ("G.rounding", "nearest_even"), ("wgrad.lhs.rounding", "up")]
    recipe = apply_settings(MXFP4, settings)
    assert recipe == apply_settings(MXFP4, settings[::-1])
    assert recipe == override(override(override(MXFP4, *settings[0]), *settings[1]), *settings[2])


def test_a_whole_object_is_set_before_its_parts() -> None:
    recipe = apply_settings(FP32, [("*.rounding", "stochastic"), ("fprop.lhs", "block")])
    assert recipe.fprop.lhs == override(FP32, "fprop.lhs", {"block": {"rounding": "stochastic"}}).fprop.lhs
    assert recipe.fprop.rhs == FP32.fprop.rhs


def test_a_setting_that_does_not_fit_yet_waits_for_the_others() -> None:
    """A sweep over a scale's codes needs a format with few of them, which another setting brings."""
    continuous = apply_settings(MXFP4, [("*.scale", "fp32"), ("*.scale_rounding", "nearest_even")])
    settings = [("*.choice", "scale_sweep"), ("W.block", 8), ("*.scale", "ue4m3")]
    with pytest.raises(OptionError):
        override(continuous, *settings[0])
    recipe = apply_settings(continuous, settings)
    assert recipe == apply_settings(continuous, settings[::-1])
    assert [recipe.quantizer(p).block for p in ("fprop.lhs", "fprop.rhs")] == [32, 8]


def test_failures_are_named_by_position() -> None:
    with pytest.raises(InvalidSettings, match=r"'block' has no meaning") as caught:
        apply_settings(FP32, [("wgrad.rotation", "hadamard"), ("*.block", 4)])
    assert list(caught.value.failures) == [1]


def test_combinations_are_as_if_applied_one_by_one() -> None:
    axes = [("G.rounding", ["nearest_even", "stochastic"]), ("*.block", [8, 16, -1]), ("G.rounding.bits", [4])]
    combinations = OverrideCache(MXFP4)
    refused = set()
    for key in product(range(2), range(3), range(1)):
        settings = [(path, values[i]) for (path, values), i in zip(axes, key, strict=True)]
        found, failures = outcome(lambda settings=settings: combinations.get(keyed(settings)))
        expected, positions = outcome(lambda settings=settings: apply_settings(MXFP4, settings))
        assert (found, failures) == (expected, [list(keyed(settings))[position] for position in positions])
        if found is None:
            refused.add(key)
    assert refused == {(0, 0, 0), (0, 1, 0), (0, 2, 0), (1, 2, 0)}
    settings = [("G.rounding", "stochastic"), ("*.block", 8), ("G.rounding.bits", 4)]
    assert combinations.get(keyed(settings)).dgrad.lhs.rounding == Stochastic(4)


def test_the_same_beginning_with_other_settings_before_it() -> None:
    """Keys, not positions, tell which setting failed: what comes before it may differ."""
    combinations = OverrideCache(MXFP4)
    bad = ("dgrad.lhs.constant", "mine")
    for others in ([], [("*.block", 16)], [("*.block", 16), ("wgrad.rotation.size", 16)]):
        with pytest.raises(InvalidSettings) as caught:
            combinations.get(keyed([*others, bad]))
        assert keyed([bad]).keys() <= caught.value.failures.keys()


def outcome(make: Callable[[], Recipe]) -> tuple[Recipe | None, list[Any]]:
    """The recipe, or what failed."""
    try:
        return make(), []
    except InvalidSettings as unusable:
        return None, list(unusable.failures)


def keyed(settings: list[tuple[str, Any]]) -> dict[Hashable, tuple[str, Any]]:
    return {(path, str(value)): (path, value) for path, value in settings}


def test_a_selector_alone_stands_for_its_quantizers() -> None:
    recipe = apply_settings(MXFP4, [("*", "bf16"), ("G", "block"), ("wgrad.lhs.block", 8)])
    assert recipe.fprop == Gemm(BFloat16(), BFloat16())
    assert (recipe.dgrad.lhs, recipe.wgrad.lhs) == (BlockQuantizer(), BlockQuantizer(block=8))
    with pytest.raises(OptionError, match="backward: unknown quantizer 'bf61'; did you mean 'bf16'"):
        apply_settings(MXFP4, [("backward", "bf61")])


def test_what_attention_copies_are_the_linears_with_all_other_settings() -> None:
    settings: list[tuple[str, Any]] = [
        ("attention", "same"),
        ("attention.scores.G.rounding", "nearest_even"),
        ("attention.*.block", 8),
        ("attention.outputs.*.block", 4),
        ("attention.outputs.forward", "bf16"),
        ("G.rounding", "stochastic"),
        ("*.block", 16),
    ]
    recipe = apply_settings(MXFP4, settings)
    for order in (settings, settings[::-1], sorted(settings, key=str)):
        assert apply_settings(MXFP4, order) == recipe
        assert OverrideCache(MXFP4).get(keyed(order)) == recipe
    assert recipe.attention is not None
    assert [recipe.wgrad.lhs.block, recipe.wgrad.lhs.rounding] == [16, Stochastic()]
    scores, outputs = recipe.attention.scores, recipe.attention.outputs
    assert scores.wgrad.lhs == override(MXFP4, "wgrad.lhs.block", 8).wgrad.lhs
    assert outputs.fprop == Gemm(BFloat16(), BFloat16())
    assert [outputs.wgrad.lhs.block, outputs.wgrad.lhs.rounding] == [4, Stochastic()]
