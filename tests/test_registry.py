"""Objects and plain data: every technique survives the round trip, and identity is content, not spelling."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.block import BlockQuantizer
from dse.errors import OptionError
from dse.formats import ELEMENTS, SCALES
from dse.gemm import Gemm
from dse.quantizer import BFloat16, Identity
from dse.recipe import Recipe, override
from dse.recipes import RECIPES
from dse.registry import FAMILIES, FORMATS, build, to_data
from dse.techniques.rotations import Hadamard
from dse.techniques.rounding import NEAREST_EVEN, Stochastic, TowardZero, Up
from dse.techniques.tensor_scales import Current

MEMBERS = [(base, name, cls) for base, family in FAMILIES.items() for name, cls in family.items()]

roundings = st.one_of(st.sampled_from([NEAREST_EVEN, TowardZero(), Up()]), st.builds(Stochastic, st.integers(1, 23)))
blocks = st.builds(
    BlockQuantizer,
    element=st.sampled_from(list(ELEMENTS.values())),
    scale=st.sampled_from(list(SCALES.values())),
    block=st.integers(1, 256),
    tile=st.integers(1, 64),
    rounding=roundings,
    scale_rounding=roundings,
    constant=st.one_of(st.none(), st.floats(0.5, 6)),
    tensor_scale=st.one_of(st.none(), st.builds(Current, st.one_of(st.none(), st.floats(1, 448)))),
)
quantizers = st.one_of(st.just(Identity()), st.just(BFloat16()), blocks)
rotations = st.one_of(
    st.none(), st.builds(Hadamard, st.sampled_from([2, 16, 128]), st.sampled_from(["none", "fixed", "random"]))
)
gemms = st.builds(Gemm, quantizers, quantizers, rotations)
recipes = st.builds(Recipe, fprop=gemms, dgrad=gemms, wgrad=gemms)


def through_json(recipe: Recipe) -> Recipe:
    text = json.dumps(to_data(recipe), sort_keys=True, allow_nan=False)
    found: Recipe = build(Recipe, json.loads(text), "recipe")
    return found


@given(recipes)
def test_any_recipe_survives_the_round_trip(recipe: Recipe) -> None:
    assert through_json(recipe) == recipe
    assert to_data(through_json(recipe)) == to_data(recipe)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_gallery_survives_the_round_trip(name: str) -> None:
    assert replace(through_json(RECIPES[name]), name=name) == replace(RECIPES[name], summary="", source="")


@pytest.mark.parametrize(("base", "name", "cls"), MEMBERS, ids=[f"{b.__name__}.{n}" for b, n, _ in MEMBERS])
def test_every_registered_class_is_frozen_data_with_its_name(base: type, name: str, cls: type) -> None:
    obj = cls()  # every field has a default
    assert isinstance(obj, base)
    assert to_data(obj) == name  # defaults are left out
    assert obj == cls()
    assert hash(obj) == hash(cls())
    for f in fields(obj):
        with pytest.raises(AttributeError):
            setattr(obj, f.name, None)
    assert cls.__doc__


@pytest.mark.parametrize(("base", "name", "cls"), MEMBERS, ids=[f"{b.__name__}.{n}" for b, n, _ in MEMBERS])
def test_every_registered_class_states_its_cost_and_its_source(base: type, name: str, cls: Any) -> None:
    ops = cls().ops()
    for entry in ops if isinstance(ops, tuple) else [(name, ops)]:
        assert entry[0]
        assert entry[1].why


def test_registries_have_no_class_twice() -> None:
    for family in FAMILIES.values():
        assert len(set(family.values())) == len(family)
    assert FORMATS == ELEMENTS | SCALES


def test_defaults_are_left_out_so_that_new_ones_do_not_change_old_identities() -> None:
    assert to_data(RECIPES["fp32"]) == {}
    assert to_data(BlockQuantizer()) == "block"
    assert to_data(Gemm(BlockQuantizer(block=16), BFloat16())) == {"lhs": {"block": {"block": 16}}, "rhs": "bf16"}
    assert to_data(Stochastic(8)) == "stochastic"
    spelt_out = override(RECIPES["nvfp4"], "G.rounding", {"stochastic": {"bits": 8}})
    assert to_data(spelt_out) == to_data(RECIPES["nvfp4"])


def test_labels_take_no_part() -> None:
    renamed = replace(RECIPES["mxfp4"], name="mine", summary="", source="")
    assert to_data(renamed) == to_data(RECIPES["mxfp4"])


def test_different_recipes_have_different_data() -> None:
    texts = [json.dumps(to_data(r), sort_keys=True) for r in RECIPES.values()]
    assert len(set(texts)) == len(texts)


def test_build_refuses_what_it_does_not_know() -> None:
    with pytest.raises(OptionError, match="Recipe has no option 'frop'; did you mean 'fprop'"):
        build(Recipe, {"frop": {}}, "recipe")
    with pytest.raises(OptionError, match=r"recipe\.fprop: expected a mapping"):
        build(Recipe, {"fprop": 3}, "recipe")
    with pytest.raises(OptionError, match=r"recipe\.fprop\.lhs\.block: expected int, found 'x'"):
        build(Recipe, {"fprop": {"lhs": {"block": {"block": "x"}}}}, "recipe")
