"""Rules about layers: which numerics each kind of layer has, in a model and in a pack; what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from dse.cli import app
from dse.errors import UserError
from dse.nn.coverage import coverage
from dse.nn.quantize import quantize_
from dse.numerics.block import BlockQuantizer
from dse.numerics.layer_choice import LayerPlace, Which
from dse.numerics.points import POINTS
from dse.numerics.recipe import Recipe, override
from dse.numerics.registry import build, to_data
from dse.recipes import RECIPES
from dse.train.loop import run_pack
from dse.trial import Trial, make_task

LM = make_task("lm", {})


def table(recipe: Recipe) -> dict[str, str]:
    """The elements at the six points of every layer of the small language model, a name each."""
    model = LM.model(LM.load())
    quantize_(model, recipe, exempt=LM.exempt())
    found = {}
    for name, module in model.named_modules():
        own = getattr(module, "recipe", None)
        if isinstance(module, nn.Linear) and isinstance(own, Recipe):
            points = [own.quantizer(point) for point in POINTS]
            found[name] = " ".join(q.element.name if isinstance(q, BlockQuantizer) else "bf16" for q in points)
    return found


FP4, FP8, BF16 = (" ".join([word] * 6) for word in ("e2m1", "e4m3", "bf16"))
ZHOU = "e2m1 e2m1 e5m2 e4m3 e5m2 e4m3"


@pytest.mark.parametrize(
    ("name", "attention", "ffn", "last"),
    [
        ("nvfp4_last15", FP4, FP4, BF16),
        ("torchao_dsv3", FP8, FP4, FP4),
        ("nemotron3_super", BF16, FP4, BF16),
        ("zhou_modulewise_fp8", "e4m3 e4m3 e5m2 e4m3 e5m2 e4m3", ZHOU, ZHOU),
    ],
)
def test_six_points_by_layer(name: str, attention: str, ffn: str, last: str) -> None:
    found = table(RECIPES[name])
    assert {found[f"blocks.0.attention.{part}"] for part in "qkvo"} == {attention}
    assert {found[f"blocks.0.mlp.{part}"] for part in ("up", "gate", "down")} == {ffn}
    assert {found[f"blocks.1.mlp.{part}"] for part in ("up", "gate", "down")} == {last}


def test_options_of_rules_follow_the_recipe_and_are_plain_data() -> None:
    recipe = override(override(RECIPES["nvfp4"], "layers.ffn.wgrad", "off"), "layers.q", RECIPES["mxfp8"])
    recipe = override(recipe, "G.rounding", "nearest_even")
    ffn = next(rule.recipe for rule in recipe.layers if rule.name == "ffn")
    assert ffn is not None
    assert to_data(ffn.dgrad) == to_data(recipe.dgrad)
    assert to_data(ffn.wgrad) == to_data(RECIPES["bf16"].wgrad)
    assert to_data(build(Recipe, to_data(recipe), "recipe")) == to_data(recipe)
    assert [rule.name for rule in override(recipe, "layers.attention", "same").layers] == ["ffn", "q", "attention"]


def test_positions() -> None:
    def covered(which: Which, blocks: int) -> list[int]:
        return [b for b in range(blocks) if which.covers(LayerPlace("", block=b, blocks=blocks, index=b, count=blocks))]

    assert covered(Which(last_share=0.15), 32) == [27, 28, 29, 30, 31]
    assert covered(Which(last_share=0.15), 36) == [30, 31, 32, 33, 34, 35]
    assert covered(Which(first_blocks=2, last_blocks=1), 6) == covered(Which(first=2, last=1), 6) == [0, 1, 5]


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("layers.attn.element", "e2m1", "no rule and no kind of layers 'attn'; did you mean 'attention'"),
        ("layers.attention.elemnt", "e2m1", "no option 'elemnt'; did you mean 'element'"),
        ("layers", [{"kind": "ffn"}], "says no numerics"),
        ("layers", [{"last_share": 2.0, "recipe": RECIPES["bf16"]}], "last_share must be from 0 to 1"),
    ],
)
def test_refused_options(path: str, value: object, text: str) -> None:
    with pytest.raises(UserError, match=text):
        override(RECIPES["nvfp4"], path, value)


def test_a_rule_that_matches_nothing_is_an_error() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    recipe = override(RECIPES["nvfp4"], "layers.attention", RECIPES["mxfp8"])
    with pytest.raises(UserError, match=r"layers\.attention matches no layer of Sequential; it has linear"):
        quantize_(model, recipe)
    optional = replace(recipe, layers=tuple(replace(rule, optional=True) for rule in recipe.layers))
    assert {row.recipe for row in coverage(quantize_(model, optional)).rows} == {"nvfp4"}


def said(*words: str) -> str:
    """What a command prints, or its error."""
    done = CliRunner().invoke(app, list(words))
    return str(done.exception) if done.exception else done.output


def test_an_idle_rule_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    text = "name: idle\ntasks: [{}]\nseeds: 1\nrecipes:\n  - mine: {{base: nvfp4, layers: {{attention: mxfp8}}}}\n"
    sweep, results = tmp_path / "idle.yaml", str(tmp_path / "results")
    sweep.write_text(text.format("regression"))
    for verb in ("plan", "run"):
        error = said(verb, str(sweep), "--results", results)
        assert error.startswith(
            f"{sweep}: task regression, mine: recipe 'mine': layers.attention matches no layer of Mlp; it has linear"
        )
    sweep.write_text(text.format("lm"))
    assert "2 trials, 1 of them baselines" in said("plan", str(sweep), "--results", results)


def test_table_of_a_task() -> None:
    lines = [line.split() for line in said("recipes", "nvfp4_last15", "--model", "lm:small").splitlines()]
    found = {line[0]: " ".join(line[7:]) for line in lines if line[0].endswith("down")}
    assert found == {"blocks.0-2.mlp.down": "nvfp4_last15", "blocks.3.mlp.down": "bf16 (rule end)"}
    assert "did you mean 'small'" in said("recipes", "nvfp4", "--model", "lm:smal")


def test_members_of_a_pack_with_different_rules_equal_their_solo_runs() -> None:
    training = replace(LM.training(), steps=3)
    recipes = [RECIPES[name] for name in ("nvfp4", "nvfp4_last15", "torchao_dsv3", "zhou_modulewise_fp8")]
    trials = [Trial(LM, training, recipe, 0) for recipe in recipes]
    assert len({trial.uid for trial in trials}) == len(trials)
    together = run_pack(trials)
    assert all(torch.isfinite(torch.tensor(record.metrics["loss"])) for record in together)
    assert len({record.metrics["loss"] for record in together}) == len(trials)
    for trial, record in zip(trials, together, strict=True):
        assert run_pack([trial])[0].metrics == record.metrics
