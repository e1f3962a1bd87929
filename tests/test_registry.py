"""Objects and plain data: every technique survives the round trip, and identity is content, not spelling."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from dse.errors import OptionError
from dse.numerics.attention import Product
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, SCALES, Format
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import BFloat16, Identity, Quantizer
from dse.numerics.recipe import Exempt, Recipe, override
from dse.numerics.registry import FAMILIES, FORMATS, build, from_data, to_data
from dse.numerics.techniques.accumulations import Accumulation
from dse.numerics.techniques.choices import Choice
from dse.numerics.techniques.conventions import Convention
from dse.numerics.techniques.corrections import Correction
from dse.numerics.techniques.outliers import Outliers
from dse.numerics.techniques.post import PostTraining
from dse.numerics.techniques.rotations import Rotation
from dse.numerics.techniques.rounding import Rounding, Stochastic
from dse.numerics.techniques.schedules import Schedule
from dse.numerics.techniques.slopes import Slope
from dse.numerics.techniques.statistics import GRADIENTS, Statistic
from dse.numerics.techniques.tensor_scales import TensorScale
from dse.numerics.techniques.weights import WeightRule
from dse.pack.grouping import unlabeled
from dse.recipes import RECIPES

MEMBERS = [(base, name, cls) for base, family in FAMILIES.items() for name, cls in family.items()]

WORDS = (
    "exact",
    "diagonal",
    "zero",
    "none",
    "fixed",
    "mae",
    "smallest",
    "one",
    "unquantized",
    "elements",
    "nearest_even",
    "activations",
    "mse",
    "output",
)


def others(value: Any) -> list[Any]:
    """Values that a parameter might take instead of its default."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 2 * value, max(1, value // 2)]
    if isinstance(value, float):
        return [value / 2, value * 1.25, (value + 1) / 2]
    if isinstance(value, Quantizer):
        return [BFloat16(), replace(value, block=16)] if isinstance(value, BlockQuantizer) else [BlockQuantizer()]
    if isinstance(value, Product):
        return [replace(value, backward_source="forward")]
    if isinstance(value, tuple) and value and isinstance(value[0], Format):
        return [(ELEMENTS["e2m1"], *value)]
    if isinstance(value, tuple) and value and isinstance(value[0], int):
        return [value[:1]]
    return list(WORDS) if isinstance(value, str) else [300.0]


def variants(base: type) -> list[Any]:
    """Every technique of a family: as it is, and with one parameter changed to each value that it accepts."""
    found = []
    for cls in FAMILIES[base].values():
        found.append(cls())
        for f in fields(cls):
            inside = [kind for kind in get_args(get_type_hints(cls)[f.name]) if kind in FAMILIES]
            values = [own() for kind in inside for own in FAMILIES[kind].values()]
            if isinstance(getattr(cls(), f.name), tuple):
                values = [(value,) for value in values]
            for value in values or others(getattr(cls(), f.name)):
                with suppress(OptionError):
                    found.append(replace(cls(), **{f.name: value}))
    return found


def technique(base: type) -> st.SearchStrategy[Any]:
    return st.sampled_from(variants(base))


def some(cls: type, **options: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects with any of the options set, those left out that the class refuses."""

    def make(chosen: dict[str, Any]) -> Any:
        try:
            return cls(**chosen)
        except OptionError:
            reject()

    return st.fixed_dictionaries({}, optional=options).map(make)


blocks = some(
    BlockQuantizer,
    element=st.sampled_from(list(ELEMENTS.values())),
    scale=st.sampled_from(list(SCALES.values())),
    block=st.integers(0, 256),
    tile=st.integers(0, 64),
    rounding=technique(Rounding),
    scale_rounding=technique(Rounding),
    slope=technique(Slope),
    scale_slope=technique(Slope),
    statistic=technique(Statistic),
    scale_gradient=st.sampled_from(GRADIENTS),
    constant=st.one_of(st.none(), st.floats(0.5, 9)),
    gain=st.floats(0, 1, exclude_min=True),
    convention=technique(Convention),
    tensor_scale=technique(TensorScale),
    outliers=technique(Outliers),
    choice=technique(Choice),
    correction=technique(Correction),
)
quantizers = st.one_of(st.just(Identity()), st.just(BFloat16()), blocks)
gemms = some(Gemm, lhs=quantizers, rhs=quantizers, rotation=technique(Rotation), accumulation=technique(Accumulation))
exempt = st.builds(Exempt, st.integers(0, 3), st.integers(0, 3), st.lists(st.text()).map(tuple))
recipes = some(
    Recipe,
    fprop=gemms,
    dgrad=gemms,
    wgrad=gemms,
    backward_source=st.sampled_from(["original", "forward"]),
    weights=technique(WeightRule),
    schedule=technique(Schedule),
    exempt=exempt,
    post=technique(PostTraining),
)


def through_json(recipe: Recipe) -> Recipe:
    text = json.dumps(to_data(recipe), sort_keys=True, allow_nan=False)
    found: Recipe = build(Recipe, json.loads(text), "recipe")
    return found


@pytest.mark.parametrize("base", [base for base in FAMILIES if base is not Quantizer], ids=lambda base: base.__name__)
def test_every_parameter_of_every_technique_varies(base: type) -> None:
    """Otherwise the round trip below would prove less than it says."""
    made = variants(base)
    for cls in FAMILIES[base].values():
        for f in fields(cls):
            assert len({getattr(x, f.name) for x in made if type(x) is cls}) > 1, f"{cls.__name__}.{f.name}"


@given(recipes)
def test_any_recipe_survives_the_round_trip(recipe: Recipe) -> None:
    assert through_json(recipe) == recipe
    assert to_data(through_json(recipe)) == to_data(recipe)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_gallery_survives_the_round_trip(name: str) -> None:
    assert unlabeled(through_json(RECIPES[name])) == unlabeled(RECIPES[name])


@pytest.mark.parametrize(("base", "name", "cls"), MEMBERS, ids=[f"{b.__name__}.{n}" for b, n, _ in MEMBERS])
def test_every_registered_class_is_frozen_data_with_its_name(base: type, name: str, cls: type) -> None:
    obj = cls()  # every field has a default
    assert isinstance(obj, base)
    version = getattr(cls, "arithmetic", 1)
    assert to_data(obj) == (name if version == 1 else {name: {"arithmetic": version}})  # defaults are left out
    assert obj == cls()
    assert hash(obj) == hash(cls())
    for f in fields(obj):
        with pytest.raises(AttributeError):
            setattr(obj, f.name, None)
    assert cls.__doc__


@pytest.mark.parametrize(("base", "name", "cls"), MEMBERS, ids=[f"{b.__name__}.{n}" for b, n, _ in MEMBERS])
def test_every_registered_class_states_its_cost_and_its_source(base: type, name: str, cls: Any) -> None:
    obj = cls()
    counts = [
        getattr(obj, count)() for count in ("ops", "vjp_ops", "slope_ops") if count == "ops" or hasattr(obj, count)
    ]
    for ops in counts:
        for entry in ops if isinstance(ops, tuple) else [(name, ops)]:
            assert entry[0]
            assert entry[1].why
    assert base is Quantizer or "Cost" in cls.__doc__
    assert base is Quantizer or "Source" in cls.__doc__


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


def test_numbers_that_have_changed_are_other_trials() -> None:
    """The version is part of the identity, read back where it is this one, and refused where it is another."""
    data = to_data(RECIPES["four_over_six"].fprop.lhs)
    assert data["block"]["choice"] == {"four_over_six": {"arithmetic": 2}}
    old = {"block": {**data["block"], "choice": "four_over_six"}}
    for form in (data, old):  # what was stored before, and what people write, is computed as it is now
        assert from_data(Gemm, "lhs", form, "here") == RECIPES["four_over_six"].fprop.lhs
    with pytest.raises(OptionError, match=r"here\.arithmetic: 1 is no longer computed, only 2; leave it out"):
        from_data(BlockQuantizer, "choice", {"four_over_six": {"arithmetic": 1}}, "here")
    with pytest.raises(OptionError, match="AbsMax has no option 'arithmetic'"):
        from_data(BlockQuantizer, "statistic", {"absmax": {"arithmetic": 1}}, "here")
