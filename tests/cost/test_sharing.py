"""What is counted once: the rules, and that the arithmetic bears them out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dse.cost import breakdown, parse_shape
from dse.cost.sharing import codes_from, passes_from
from dse.numerics.recipe import POINTS, Recipe, override
from dse.recipes import RECIPES
from tests.quantizers import normal

LAYER = parse_shape("64,128,96")


def shared(recipe: Recipe) -> dict[str, str]:
    return {p: first for p in POINTS if (first := codes_from(recipe, p))}


def test_square_weight_tiles_are_quantized_once() -> None:
    assert shared(RECIPES["nvfp4"]) == {"dgrad.rhs": "fprop.rhs"}
    assert shared(RECIPES["ue5m3"]) == {"dgrad.rhs": "fprop.rhs"}
    rows = [r for r in breakdown(RECIPES["nvfp4"], LAYER) if (r.gemm, r.operand) == ("dgrad", "W")]
    assert [(r.technique, r.vector) for r in rows if r.vector] == [("tensor scale", 0.5 * 64 * 128)]  # the epilogue
    assert all(r.note == "codes of fprop.rhs" for r in rows)
    assert not any(r.read_bytes or r.syncs for r in rows)


def test_everything_else_is_quantized_twice() -> None:
    assert not shared(RECIPES["nvfp4_plain"])  # 1x16 blocks run along another axis
    assert not shared(RECIPES["mxfp4"])
    nvfp4 = RECIPES["nvfp4"]
    assert not shared(override(nvfp4, "W.tile", 8))  # tiles that are not square
    assert not shared(override(nvfp4, "fprop.rotation", "hadamard"))
    assert not shared(override(nvfp4, "W.rounding", "stochastic"))  # two draws
    assert not shared(override(nvfp4, "dgrad.rhs.scale", "ue5m3"))  # two formats
    assert not shared(RECIPES["bf16"])
    tiles = override(override(RECIPES["mxfp4"], "*.tile", 32), "wgrad.rotation", "hadamard")
    assert shared(tiles) == {"dgrad.rhs": "fprop.rhs"}
    assert len(shared(override(tiles, "wgrad.rotation", None))) == 3
    whole = override(override(RECIPES["mxfp4"], "*.tile", 0), "*.block", 0)
    assert len(shared(whole)) == 3  # one scale for the tensor: a transposition changes nothing
    assert not shared(override(whole, "*.block", 32))
    assert not shared(override(RECIPES["nvfp4"], "backward_source", "forward"))
    assert shared(override(whole, "backward_source", "forward")) == {"wgrad.lhs": "dgrad.lhs"}


@pytest.mark.parametrize("name", ["nvfp4", "ue5m3"])
def test_the_arithmetic_agrees_that_the_codes_are_shared(name: str) -> None:
    w = normal(50, 70)
    a, b = RECIPES[name].fprop.rhs(w), RECIPES[name].dgrad.rhs(w.T)
    assert torch.equal(a.values.T, b.values)
    assert a.alpha is not None
    assert b.alpha is not None
    assert torch.equal(a.alpha, b.alpha)
    one_dimensional = RECIPES["nvfp4_plain"]
    assert not torch.equal(one_dimensional.fprop.rhs(w).values.T, one_dimensional.dgrad.rhs(w.T).values)


def test_one_amax_serves_both_uses_of_a_tensor_unless_it_is_rotated() -> None:
    plain = RECIPES["nvfp4_plain"]
    assert {p: passes_from(plain, p) for p in POINTS if passes_from(plain, p)} == {
        "dgrad.rhs": "fprop.rhs",
        "wgrad.lhs": "dgrad.lhs",
        "wgrad.rhs": "fprop.lhs",
    }
    rows = [r for r in breakdown(plain, LAYER) if r.technique == "tensor scale"]
    assert [r.syncs for r in rows] == [1, 1, 1, 0, 0, 0]
    assert sum(r.read_bytes for r in rows) == 2 * (64 * 128 + 128 * 96 + 64 * 96)
    assert rows[5].note == "amax of fprop.lhs"
    assert rows[5].vector == 64 * 128 / 16 + 0.5 * 96 * 128  # block maxima and epilogue are its own
    assert [r.syncs for r in breakdown(RECIPES["nvfp4"], LAYER) if r.technique == "tensor scale"] == [1, 1, 1, 0, 1, 1]
    other = override(plain, "wgrad.lhs.tensor_scale", {"current": {"target": 256}})
    assert passes_from(other, "wgrad.lhs") is None
    x = normal(50, 70)
    assert torch.equal(plain.fprop.lhs(x).alpha, plain.wgrad.rhs(x.T).alpha)  # type: ignore[arg-type]


def test_sharing_never_adds_work() -> None:
    for name in ("nvfp4", "ue5m3"):
        recipe = RECIPES[name]
        split = replace(recipe, dgrad=replace(recipe.dgrad, rhs=replace(recipe.dgrad.rhs, tile=1)))  # type: ignore[type-var]
        assert sum(r.vector for r in breakdown(recipe, LAYER)) < sum(r.vector for r in breakdown(split, LAYER))
