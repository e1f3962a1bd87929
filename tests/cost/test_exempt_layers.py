"""Costs of layers that a recipe leaves in 16 bits, by ``exempt`` or by a rule: by hand, and the same either way."""

from __future__ import annotations

import pytest

from dse.cost import LLAMA3_8B, attention, by_layer, overhead, parse_shape, relative_time
from dse.cost.models import deployed
from dse.cost.models.placed import core_numerics
from dse.cost.overhead import mean_bits
from dse.cost.roofline import machine, step_time
from dse.cost.storage import weight_bits
from dse.numerics.recipe import Recipe, override
from dse.recipes import RECIPES
from dse.recipes.bf16 import BF16

PLAIN = RECIPES["nvfp4_plain"]
AFTER = override(PLAIN, "post", "rtn")
ALIKE = {
    "exempt": ("exempt.last", 7),
    "rule": ("layers", [{"last": 7, "recipe": "none"}]),
    "rule bf16": ("layers", [{"last": 7, "recipe": RECIPES["bf16"]}]),
}
"""Ways to leave the seven linears of the last of 32 blocks in 16 bits."""


@pytest.mark.parametrize("way", sorted(ALIKE))
def test_the_last_block_of_llama_in_sixteen_bits(way: str) -> None:
    training, after = (override(own, *ALIKE[way]) for own in (PLAIN, AFTER))
    assert relative_time(training) == pytest.approx((31 * relative_time(PLAIN) + 1) / 32)
    assert overhead(training) == pytest.approx(31 / 32 * overhead(PLAIN))
    assert mean_bits(training) == pytest.approx((31 * 4 + 16) / 32)
    assert relative_time(after) == pytest.approx((31 * relative_time(AFTER) + 1) / 32)
    assert weight_bits(after) == pytest.approx((31 * weight_bits(AFTER) + 16) / 32)
    model = deployed("llama3-1b")
    expected = step_time(override(PLAIN, *ALIKE["rule bf16"]), model, machine("b200")).seconds
    assert step_time(training, model, machine("b200")).seconds == pytest.approx(expected)


def test_names_and_unknown_shapes() -> None:
    """Attention's projections by their names: their share of the GEMMs is counted by hand."""
    hidden, kv, ffn = 4096, 1024, 14336
    share = 2 * hidden * (hidden + kv) / (2 * hidden * (hidden + kv) + 3 * hidden * ffn)
    named = override(PLAIN, "exempt.names", ["*attention*"])
    linears = [shape for shape in LLAMA3_8B if shape.name.startswith("ffn")]
    assert relative_time(named) == pytest.approx(share + (1 - share) * relative_time(PLAIN, linears))
    alone = [parse_shape("64,64,64")]
    assert relative_time(named, alone) == relative_time(PLAIN, alone)  # of no known model
    assert [own for own, _ in by_layer(named, LLAMA3_8B)] == [BF16, BF16, named.under(None), named.under(None)]


def test_a_searchs_budget_is_that_of_all_layers() -> None:
    """16 bits in one of 32 blocks leave (32 * 8 - 16) / 31 to the others; so does a rule that says BF16."""

    def searched(*way: object) -> Recipe:
        recipe = override(PLAIN, "post", {"autoquantize": {"bits": 8}})
        return override(recipe, *way) if way else recipe  # type: ignore[arg-type]

    for way in ALIKE.values():
        assert weight_bits(searched(*way)) == pytest.approx(8)
    four = weight_bits(AFTER)
    share = (16 - (32 * 8 - 16) / 31) / (16 - four) * 31 / 32  # of the weights in NVFP4
    assert mean_bits(searched(*ALIKE["exempt"])) == pytest.approx(4 * share + 16 * (1 - share), rel=1e-4)
    assert weight_bits(searched(*ALIKE["exempt"]), shares=(1.0, 0.0)) == pytest.approx((31 * four + 16) / 32)
    assert weight_bits(searched()) == pytest.approx(8)


def test_attention_beside_exempt_projections_is_exempt() -> None:
    """As in ``quantize_``: by its name, or where all linears beside it are."""
    whole = override(PLAIN, "attention", "same")
    last = override(whole, "exempt.last", 7)
    counts = [layer.count for own, layer in attention(last, LLAMA3_8B)]
    assert counts == [31 * 32] * 2
    assert [layer.count for _, layer in attention(override(whole, "exempt.last", 3), LLAMA3_8B)] == [32 * 32] * 2
    assert attention(override(whole, "exempt.names", ["*core"]), LLAMA3_8B) == []
    found = core_numerics(last, deployed("llama3-8b"))
    assert sorted((own.attention is not None, blocks) for (_, own), blocks in found.items()) == [(False, 1), (True, 31)]
