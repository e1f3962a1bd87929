"""Costs of configurations that quantize after training: their widths, their shares of formats, and no training step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dse import RECIPES, override
from dse.cost import relative_time
from dse.cost.cost_places import CostPlace
from dse.cost.models import deployed
from dse.cost.overhead import mean_bits
from dse.cost.roofline import machine, step_interval
from dse.cost.roofline.memory import extra_memory
from dse.cost.shapes import LLAMA3_8B
from dse.report.analysis.configs import ALL, aggregate_seeds
from dse.report.analysis.deployment import place_times
from dse.report.analysis.tidy import row_dicts, tabulate
from dse.results.record import Record
from dse.sweep import Sweep
from tests.report.studies import records_of, sweep_of

AFTER = """
  - w8a8: {base: mxfp8}
  - w4a8: {base: mxfp4, fprop.lhs.element: e4m3}
  - mixed: {base: nvfp4_plain}
seeds: 2
when:
  - {if: {recipe: [w8a8, w4a8]}, grid: {post: [rtn]}}
  - {if: {recipe: mixed}, grid: {post: [{autoquantize: {bits: 8}}, {autoquantize: {bits: 11}}]}}
"""
PLACES = [CostPlace("llama3-1b", "b200")]
ONLY_AFTER = f"tasks: [lm]\nrecipes:\n  - bf16{AFTER}"
BOTH = f"tasks: [lm]\nrecipes:\n  - bf16\n  - nvfp4\n  - nvfp4_last15{AFTER}"


def rows(sweep: Sweep, records: list[Record]) -> dict[str, dict[str, object]]:
    found = aggregate_seeds(tabulate(sweep, records))
    return {str(row["config"]): row for row in row_dicts(found[found["task"] == ALL])}


def test_widths_are_those_of_the_forward_gemm(tmp_path: Path) -> None:
    """Means by hand: a budget of 11 bits is made of NVFP4's 4.5 and BF16's 16, that of 8 as well."""
    sweep = sweep_of(tmp_path, ONLY_AFTER)
    found = rows(sweep, records_of(sweep, lambda labels: 1.0))
    four = 4.5 + sum(32 * layer.count for layer in LLAMA3_8B) / sum(
        layer.inputs * layer.outputs * layer.count for layer in LLAMA3_8B
    )
    for bits in (8, 11):
        share = (16 - bits) / (16 - four)
        own = found[next(name for name in found if f"bits: {bits}" in name or f"bits={bits}" in name)]
        assert own["mean_bits"] == pytest.approx(4 * share + 16 * (1 - share), rel=1e-4)
        assert own["bits"] == {8: 8, 11: 16}[bits]  # 7.8 and 10.8
    by_recipe = {row["recipe"]: row for row in found.values()}
    assert (by_recipe["w8a8"]["bits"], by_recipe["w4a8"]["bits"], by_recipe["bf16"]["bits"]) == (8, 8, 16)
    assert by_recipe["w4a8"]["mean_bits"] == 8


def test_a_search_costs_what_it_has_chosen(tmp_path: Path) -> None:
    """A budget of 8 bits that a small net meets with NVFP4 alone costs what NVFP4 does; seeds count in the mean."""
    sweep = sweep_of(tmp_path, ONLY_AFTER)

    def with_shares(one: Record, first: float) -> Record:
        return replace(one, pack={"post": {"bits_per_weight": 4.5, "format_shares": [first, 1 - first]}})

    made = records_of(sweep, lambda labels: 1.0)
    searched = {cell.uid: cell for cell in sweep.cells if "autoquantize" in cell.config}
    plain = relative_time(override(RECIPES["nvfp4_plain"], "post", "rtn"))
    alone = rows(sweep, [with_shares(one, 1.0) if one.uid in searched else one for one in made])
    for row in alone.values():
        if row["recipe"] == "mixed":
            assert (row["mean_bits"], row["bits"]) == (4, 4)
            assert row["relative_time"] == pytest.approx(plain)
            assert row["narrow"]
    shares = {0: 0.75, 1: 0.25}
    halves = rows(
        sweep,
        [with_shares(one, shares[searched[one.uid].trial.seed]) if one.uid in searched else one for one in made],
    )
    mixed = [row for row in halves.values() if row["recipe"] == "mixed"]
    assert [row["mean_bits"] for row in mixed] == pytest.approx([10.0, 10.0])
    assert [row["relative_time"] for row in mixed] == pytest.approx(2 * [(plain + 1) / 2])


def test_they_are_on_no_front_of_training(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, BOTH)
    records = records_of(sweep, lambda labels: 1.0)
    found = rows(sweep, records)
    after = {name for name, row in found.items() if row["after_training"]}
    assert len(after) == 4
    assert not any(found[name][column] for name in after for column in ("narrow", "eligible", "front", "front_time"))
    assert found["nvfp4"]["narrow"]
    assert found["nvfp4_last15"]["mean_bits"] == pytest.approx((27 * 4 + 5 * 16) / 32)  # its last 5 of 32 blocks
    assert (found["nvfp4_last15"]["bits"], found["nvfp4_last15"]["narrow"]) == (6, False)
    assert 4.5 < mean_bits(RECIPES["torchao_dsv3"]) < 5  # MXFP8 in attention's projections, and not called 4 bits
    configs = aggregate_seeds(tabulate(sweep, records))
    timed = [
        one.config for place in place_times(sweep, configs, PLACES) for times in place.all for one in times.configs
    ]
    assert timed
    assert not after & set(timed)
    only = sweep_of(tmp_path, ONLY_AFTER)
    assert place_times(only, aggregate_seeds(tabulate(only, records_of(only, lambda labels: 1.0)))) == []


def test_training_is_bf16s() -> None:
    model, recipe = deployed("llama3-8b"), override(RECIPES["nvfp4"], "post", "rtn")
    assert step_interval(recipe, model, machine("b200")).relative == (1.0, 1.0)
    assert extra_memory(recipe, model) == (0.0, 0.0)


def test_widths_of_training() -> None:
    """FP4 in the forward GEMM alone is 4 and twice 16; healing in FP8 has 8 for 210 of 550 steps."""
    assert mean_bits(RECIPES["per_token_nvfp4"]) == pytest.approx(12)
    assert mean_bits(RECIPES["mlperf_mxfp4_healing"]) == pytest.approx((340 * 4 + 210 * 8) / 550)
    assert [mean_bits(RECIPES[name]) for name in ("bf16", "nvfp4", "mxfp8")] == [16, 4, 8]
