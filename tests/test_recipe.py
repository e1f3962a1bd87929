"""Recipes as data: overrides at the six points, their error lines, and the gallery's numbers."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import pytest

from dse.errors import OptionError
from dse.numerics.attention import Product
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E4M3, E8M0, UE4M3, UE5M3
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import BFloat16, Identity
from dse.numerics.recipe import GEMMS, POINTS, SELECTORS, Recipe, is_option_path, override
from dse.numerics.registry import build, to_data
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import NEAREST_EVEN, AwayFromZero, Stochastic, TowardZero
from dse.numerics.techniques.tensor_scales import Current
from dse.recipes import RECIPES

MXFP4, NVFP4 = RECIPES["mxfp4"], RECIPES["nvfp4"]


def changed(a: Recipe, b: Recipe) -> set[str]:
    """The quantization points, and rotations, at which two recipes differ."""
    points = {p for p in POINTS if a.quantizer(p) != b.quantizer(p)}
    return points | {f"{g}.rotation" for g in GEMMS if getattr(a, g).rotation != getattr(b, g).rotation}


@pytest.mark.parametrize(("selector", "points"), SELECTORS.items(), ids=list(SELECTORS))
def test_an_option_is_set_at_the_points_its_selector_names_and_nowhere_else(
    selector: str, points: tuple[str, ...]
) -> None:
    new = override(MXFP4, f"{selector}.rounding", "stochastic")
    assert changed(MXFP4, new) == set(points)
    assert all(new.quantizer(p) == replace(MXFP4.quantizer(p), rounding=Stochastic()) for p in points)
    assert MXFP4.fprop.lhs.rounding == NEAREST_EVEN  # type: ignore[attr-defined]  # the original is as it was
    assert new.name == "mxfp4"


@pytest.mark.parametrize(
    ("path", "data", "field", "value"),
    [
        ("*.block", 16, "block", 16),
        ("*.block", 0, "block", 0),
        ("X.tile", 8, "tile", 8),
        ("W.element", "e4m3", "element", E4M3),
        ("W.scale", "ue5m3", "scale", UE5M3),
        ("G.rounding", {"stochastic": {"bits": 16}}, "rounding", Stochastic(16)),
        ("G.rounding", "toward_zero", "rounding", TowardZero()),
        ("*.scale_rounding", "up", "scale_rounding", AwayFromZero()),
        ("*.constant", None, "constant", None),
        ("*.constant", "none", "constant", None),
        ("*.constant", 6, "constant", 6.0),
        ("*.tensor_scale", "current", "tensor_scale", Current()),
        ("*.tensor_scale", {"current": {"target": 256}}, "tensor_scale", Current(256.0)),
        ("wgrad.rhs.rounding", "nearest_even", "rounding", NEAREST_EVEN),
    ],
    ids=str,
)
def test_values_as_yaml_writes_them(path: str, data: object, field: str, value: object) -> None:
    new = override(MXFP4, path, data)
    selector = path.rpartition(".")[0]
    assert all(getattr(new.quantizer(p), field) == value for p in SELECTORS[selector])


def test_nested_parameters_rotations_and_whole_points() -> None:
    bits = override(NVFP4, "G.rounding.bits", 4)
    assert bits.dgrad.lhs.rounding == Stochastic(4)  # type: ignore[attr-defined]
    assert override(NVFP4, "*.tensor_scale.target", 256.0).fprop.rhs.tensor_scale == Current(256.0)  # type: ignore[attr-defined]
    turned = override(MXFP4, "backward.rotation", {"hadamard": {"size": 32, "signs": "fixed"}})
    assert changed(MXFP4, turned) == {"dgrad.rotation", "wgrad.rotation"}
    assert turned.dgrad.rotation == Hadamard(32, "fixed")
    assert override(NVFP4, "wgrad.rotation", None).wgrad.rotation is None
    assert override(NVFP4, "wgrad.rotation.size", 64).wgrad.rotation == Hadamard(64, "fixed")
    assert override(MXFP4, "wgrad.rhs", "bf16").wgrad == Gemm(MXFP4.wgrad.lhs, BFloat16())
    assert override(RECIPES["fp32"], "fprop.lhs", {"block": {"block": 16}}).fprop.lhs == BlockQuantizer(block=16)


def test_points_a_recipe_does_not_quantize_are_left_alone() -> None:
    mixed = override(MXFP4, "fprop.lhs", "identity")
    assert changed(mixed, override(mixed, "*.block", 16)) == set(POINTS) - {"fprop.lhs"}


@pytest.mark.parametrize(
    ("recipe", "path", "data", "message"),
    [
        ("mxfp4", "G.rouding", "up", "G.rouding: no option 'rouding'; did you mean 'rounding'?"),
        ("mxfp4", "G.rounding", "stochastc", "G.rounding: unknown rounding 'stochastc'; did you mean 'stochastic'?"),
        ("mxfp4", "Q.rounding", "up", "Q.rounding: no quantization point 'Q'"),
        ("mxfp4", "wgrd.rhs.rounding", "up", "no quantization point 'wgrd'; did you mean 'wgrad'?"),
        ("mxfp4", "G", "up", "G: names no option"),
        ("mxfp4", "*.block", -1, "*.block: block must be at least 0 (0: all), not -1"),
        ("mxfp4", "*.block", "sixteen", "*.block: expected int, found 'sixteen'"),
        ("mxfp4", "*.block", 16.0, "*.block: expected int, found 16.0"),
        ("mxfp4", "*.block", True, "*.block: expected int, found True"),
        ("mxfp4", "*.constant", -7, "*.constant: constant must be positive and finite, not -7.0"),
        ("mxfp4", "*.scale", "e4m3", "*.scale: unknown scale format 'e4m3'; did you mean 'ue4m3'?"),
        ("mxfp4", "*.element", "e2m1x", "*.element: unknown element format 'e2m1x'; did you mean 'e2m1'?"),
        ("mxfp4", "G.rounding", {"stochastic": {"bit": 8}}, "Stochastic has no option 'bit'; did you mean 'bits'?"),
        ("mxfp4", "G.rounding", {"stochastic": {"bits": 99}}, "stochastic.bits must be between 1 and 23, not 99"),
        ("mxfp4", "G.rounding", {"stochastic": 8}, "the parameters of 'stochastic' must be a mapping, found 8"),
        ("mxfp4", "G.rounding", {"up": None, "stochastic": None}, "write one rounding as {name: {parameter: value}}"),
        ("mxfp4", "G.rounding", None, "G.rounding: unknown rounding None"),
        ("mxfp4", "G.rounding.bits", 8, "G.rounding.bits: NearestEven has no option 'bits'"),
        ("nvfp4", "G.rounding.bitz", 8, "G.rounding.bitz: Stochastic has no option 'bitz'; did you mean 'bits'?"),
        ("mxfp4", "*.tensor_scale.target", 256, "the recipe has none there, so 'target' has no meaning"),
        ("mxfp4", "wgrad.rotation.size", 16, "the recipe has none there, so 'size' has no meaning"),
        ("mxfp4", "wgrad.rotation", {"hadamard": {"size": 12}}, "hadamard.size must be a power of two"),
        ("mxfp4", "wgrad.rotation", "hadamar", "unknown rotation 'hadamar'; did you mean 'hadamard'?"),
        ("mxfp4", "*.tensor_scale", "curent", "*.tensor_scale: unknown tensor scale 'curent'; did you mean 'current'?"),
        ("mxfp4", "weights", "q_emu", "weights: unknown weight rule 'q_emu'; did you mean 'q_ema'?"),
        ("bf16", "*.block", 16, "recipe 'bf16' has no block quantizer at *, so 'block' has no meaning there"),
        ("fp32", "G.rounding", "up", "'rounding' has no meaning there"),
        ("mxfp4", "fprop.lhs", "blok", "unknown quantizer 'blok'; did you mean 'block'?"),
        ("mxfp4", "attention", "sam", "attention: expected a mapping, found 'sam'"),
        ("mxfp4", "attention", {"score": "same"}, "Attention has no option 'score'; did you mean 'scores'?"),
        ("mxfp4", "attention", {"scores": {"fprp": {}}}, "Product has no option 'fprp'; did you mean 'fprop'?"),
        ("mxfp4", "attention.scores.G.rouding", "up", "no option 'rouding'; did you mean 'rounding'?"),
        ("mxfp4", "attention.scores.fprp.lhs", "block", "Product has no option 'fprp'; did you mean 'fprop'?"),
        ("mxfp4", "attention.Q.rounding", "up", "Attention has no option 'Q'"),
        ("mxfp4", "attention.*.block", 16, "this product of attention has no block quantizer at *"),
        ("mxfp4", "attention.scores.wgrad.rotation.size", 16, "the recipe has none there"),
        ("mxfp4", "attention.smooth_keys", 1, "attention.smooth_keys: expected bool, found 1"),
        ("mxfp4", "attention.outputs", "none of it", "expected a mapping, found 'none of it'"),
    ],
    ids=lambda x: x if isinstance(x, str) and "." in x and " " not in x else "",
)
def test_every_mistake_gets_one_line_with_the_path_and_the_nearest_choice(
    recipe: str, path: str, data: object, message: str
) -> None:
    with pytest.raises(OptionError, match=re.escape(message)) as caught:
        override(RECIPES[recipe], path, data)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(path)


def test_option_paths_are_told_from_other_axes() -> None:
    assert all(is_option_path(p) for p in ("*.block", "wgrad.rhs.rounding", "G.rounding.bits", "fprop.lhs", "X.scale"))
    assert not any(is_option_path(p) for p in ("training.lr", "task", "recipe", "Gradient.block", "seed"))


def test_the_gallery_says_what_it_is() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert recipe.summary
        assert recipe.source


def test_the_gallery_is_what_its_sources_say() -> None:
    """The recipe matrix of the literature, point by point."""
    assert all(RECIPES["fp32"].quantizer(p) == Identity() for p in POINTS)
    assert all(RECIPES["bf16"].quantizer(p) == BFloat16() for p in POINTS)
    for p in POINTS:
        mx4, mx8 = MXFP4.quantizer(p), RECIPES["mxfp8"].quantizer(p)
        assert mx4 == BlockQuantizer(E2M1, E8M0, 32, constant=4.0, scale_rounding=TowardZero())
        assert mx8 == BlockQuantizer(E4M3, E8M0, 32, scale_rounding=AwayFromZero())
    for name, scale, target in (("nvfp4", UE4M3, None), ("ue5m3_current", UE5M3, 448.0)):
        recipe = RECIPES[name]
        x = BlockQuantizer(E2M1, scale, 16, tensor_scale=Current(target))
        assert recipe.fprop.lhs == recipe.wgrad.rhs == x
        assert recipe.fprop.rhs == recipe.dgrad.rhs == replace(x, tile=16)
        assert recipe.dgrad.lhs == recipe.wgrad.lhs == replace(x, rounding=Stochastic(8))
        assert (recipe.fprop.rotation, recipe.dgrad.rotation) == (None, None)
    assert NVFP4.wgrad.rotation == Hadamard(16, "fixed")
    assert RECIPES["ue5m3_current"].wgrad.rotation is None


def test_attention_is_set_by_the_paths_of_its_products() -> None:
    mxfp4 = RECIPES["mxfp4"]
    same = override(mxfp4, "attention", "same")
    own = same.attention
    assert own is not None
    assert own.scores == own.outputs
    assert (own.scores.fprop, own.scores.dgrad, own.scores.wgrad) == (mxfp4.fprop, mxfp4.dgrad, mxfp4.wgrad)
    assert override(same, "attention", "none") == mxfp4
    assert override(override(mxfp4, "attention.scores", "same"), "attention.outputs", "same") == same
    assert override(mxfp4, "attention", {"scores": "same", "outputs": "same"}) == same
    q = mxfp4.fprop.lhs
    for path, points in (
        (
            "attention.G.rounding",
            {("scores", "dgrad.lhs"), ("scores", "wgrad.lhs"), ("outputs", "dgrad.lhs"), ("outputs", "wgrad.lhs")},
        ),
        ("attention.outputs.fprop.lhs.rounding", {("outputs", "fprop.lhs")}),
        ("attention.scores.X.rounding", {("scores", "fprop.lhs"), ("scores", "wgrad.rhs")}),
    ):
        changed = override(same, path, "stochastic").attention
        assert changed is not None
        found = {(n, p) for n in ("scores", "outputs") for p in POINTS if getattr(changed, n).quantizer(p) != q}
        assert found == points
    half = override(mxfp4, "attention.outputs.forward", "bf16").attention
    assert half is not None
    assert half.scores == Product()
    assert half.outputs.fprop == RECIPES["bf16"].fprop
    assert override(override(same, "attention.outputs", "none"), "attention.*.block", 16).attention is not None
    assert to_data(override(mxfp4, "attention", "none")) == to_data(mxfp4)
    assert build(Recipe, to_data(same), "recipe") == replace(same, name="", summary="", source="")


def test_a_recipe_leaves_its_hash_in_its_process() -> None:
    """It is computed once, of all fields, and is another one where texts hash otherwise."""
    recipe = replace(RECIPES["nvfp4"], source="here")
    assert hash(recipe) != hash(RECIPES["nvfp4"])
    again = pickle.loads(pickle.dumps(recipe))
    assert "_hash" in vars(recipe)
    assert "_hash" not in vars(again)
    assert (again, hash(again)) == (recipe, hash(recipe))
    assert hash(replace(recipe, source=RECIPES["nvfp4"].source)) == hash(RECIPES["nvfp4"])
