"""Models and hardware profiles in YAML: what they say against published sizes, and errors of a user's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dse.cost.models import DEPLOYED, CoreShape, deployed, placed
from dse.cost.profiles import PROFILES, profile
from dse.errors import UserError
from dse.numerics.layer_choice import Exempt
from dse.recipes import RECIPES
from dse.recipes.bf16 import BF16

PUBLISHED = {
    "llama3-1b": 1.498,  # embedding and head counted apart, which the model shares
    "llama3-8b": 8.03,
    "llama3-70b": 70.55,
    "llama3-405b": 405.85,
    "qwen3-8b": 8.19,
    "nemotron-h-8b": 8.084,
    "nemotron-3-super": 120.6,
    "dsv3-16b": 15.7,
    "gpt-oss-20b": 20.91,
    "dit-xl-2": 0.675,
    "vit-l": 0.304,
}
"""Billions of parameters, as their authors state them."""


def test_every_model_has_its_published_number_of_parameters() -> None:
    assert set(DEPLOYED) == set(PUBLISHED)
    for name, billions in PUBLISHED.items():
        assert deployed(name).parameters / 1e9 == pytest.approx(billions, rel=0.012), name


def test_experts_have_the_rows_that_their_tokens_give_them() -> None:
    model = deployed("gpt-oss-20b")
    experts = [part for part in placed(RECIPES["nvfp4"], model) if part.experts > 1]
    assert experts
    for part in experts:  # 8,192 tokens of each of 8 GPUs, to 4 of 32 experts, of which a GPU holds 4
        assert (part.shape.tokens, part.experts) == (8 * 8192 * 4 // 32, 4)


def test_tensor_parallelism_divides_the_side_that_is_named() -> None:
    model = deployed("llama3-405b")
    shapes = {part.shape.name: part.shape for part in placed(RECIPES["nvfp4"], model)}
    assert shapes["attention.o"].inputs == 16384 // 8
    assert shapes["ffn.gate + ffn.up"].outputs == 2 * 53248 // 8
    alone = model.model_copy(update={"tensor_parallel": 1})
    whole, split = (sum(p.parameters for p in placed(RECIPES["nvfp4"], m)) for m in (alone, model))
    assert whole == 8 * split


def test_formats_by_layer_are_those_of_the_recipes_rules() -> None:
    parts = placed(RECIPES["nemotron3_super"], deployed("nemotron-3-super"))
    own = {(part.shape.name.partition(" ")[0], part.recipe.name) for part in parts}
    assert {("mamba.in_proj", "nemotron3_super"), ("mamba.out_proj", "mxfp8"), ("latent.up", "bf16")} <= own
    assert ("attention.q", "nemotron3_super") not in own
    assert ("router", "bf16") in own
    assert not {recipe for role, recipe in own if role == "router"} - {"bf16"}
    last = [part for part in parts if part.shape.name == "expert.up" and part.recipe == BF16]
    assert [part.shape.count for part in last] == [7]  # of 40, in the last 14 of 88 blocks
    ends = replace(RECIPES["nvfp4"], exempt=Exempt(last=7))
    left = [part for part in placed(ends, deployed("llama3-8b")) if part.recipe == BF16]
    assert {part.shape.count for part in left} == {1}
    assert len(left) == 4  # the last block's GEMMs: q, k and v together, o, gate and up together, down


def test_a_query_sees_half_of_a_causal_sequence_or_its_window() -> None:
    assert CoreShape(heads=1, width=1).seen(8192) == 4096
    assert CoreShape(heads=1, width=1, causal=False).seen(256) == 256
    window = sum(min(t + 1, 128) for t in range(8192)) / 8192
    assert CoreShape(heads=1, width=1, window=128).seen(8192) == pytest.approx(window, rel=0.01)


def test_every_profile_states_its_sources() -> None:
    assert {"b200", "gb200", "b300", "gb300", "rtx-5090", "rtx-pro-6000", "mi355x", "h100", "h200"} <= set(PROFILES)
    for name in PROFILES:
        own = profile(name)
        assert own.name == name
        assert own.peak(16) <= own.peak(8) <= own.peak(4)
    assert profile("h100").peak(4) == profile("h100").peak(8)  # no unit of four bits


MODEL = """
name: mine
title: Mine
source: here
tokens: 64
sequence: 64
hidden: 32
kinds: {a: {linears: [{role: ffn.up, inputs: 32, outputs: 64, split: outputs}]}}
order: aa
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("tokens: 64", "token: 64", "unknown key 'token'; did you mean 'tokens'?"),
        ("tokens: 64", "tokens: 0", "tokens: should be greater than 0, found 0"),
        ("inputs: 32,", "", "kinds.a.linears.0.inputs: is missing"),
        ("ffn.up", "fnn.up", "kinds.a.linears.0.role: no kind of layer 'fnn'; did you mean 'ffn'?, found 'fnn.up'"),
        ("order: aa", "order: ab", "order: no kind of block 'b'; valid: a"),
        ("hidden: 32", "hidden: 32\ntensor_parallel: 3", "ffn.up: 64 outputs do not split among 3 GPUs"),
        ("order: aa", "order: [", "is not YAML"),
    ],
)
def test_a_model_of_ones_own(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MODEL)
    assert placed(RECIPES["nvfp4"], deployed(str(path)))[0].shape.count == 2
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(MODEL.replace(old, new))
    with pytest.raises(UserError) as caught:
        deployed(str(wrong))
    assert str(caught.value).startswith(f"{wrong}: {told}")
    assert "\n" not in str(caught.value)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown model 'llama3-8'; did you mean 'llama3-8b'"):
        deployed("llama3-8")
    with pytest.raises(UserError, match=r"unknown hardware 'b20'; did you mean 'b200'\?; or name a .yaml file"):
        profile("b20")
    with pytest.raises(UserError, match="cannot be read"):
        deployed("nowhere.yaml")
