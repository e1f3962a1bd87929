"""The report's front after training: bits per weight, time at inference, and the sentence about W4A4."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from dse import RECIPES, override
from dse.cost.shapes import LLAMA3_8B, LayerShape
from dse.cost.storage import weight_bits
from dse.numerics.recipe import Recipe
from dse.report.analysis.configs import aggregate_seeds
from dse.report.analysis.post_front import PostConfig, best_at_four_bits, post_front
from dse.report.analysis.tidy import tabulate
from dse.report.write import write_report
from dse.results.record import Record
from tests.report.studies import records_of, sweep_of

pytestmark = pytest.mark.usefixtures("few_pictures")

TEXT = """
tasks: [lm]
recipes:
  - bf16
  - mxfp4
  - nvfp4_plain
  - mxint8
seeds: 3
post:
  - rtn
  - {rtn: {branch: {svdquant: {rank: 32}}}}
"""
LOST = {"mxfp4": 0.4, "nvfp4_plain": 0.2, "mxint8": 0.02}


def after(name: str, method: object = "rtn") -> Recipe:
    return override(RECIPES[name], "post", method)


def test_bits_per_weight() -> None:
    branch = {"rtn": {"branch": {"svdquant": {"rank": 32}}}}
    one = [LayerShape("layer", 1, 4096, 4096)]
    assert weight_bits(after("mxfp4"), one) == 4.25
    assert weight_bits(after("mxfp4", branch), one) == 4.25 + 16 * 32 * 2 / 4096
    assert weight_bits(after("nvfp4_plain"), one) == 4.5 + 32 / 4096**2
    assert weight_bits(RECIPES["bf16"], one) == 16
    assert weight_bits(after("sageattention3"), one) == 16
    layout = {"block": {"element": "e2m1", "scale": "fp32", "block": 0}}
    fpq = override(RECIPES["bf16"], "fprop.rhs", layout)
    fpq = override(fpq, "fprop.lhs", {"block": {**layout["block"], "tile": 0}})
    assert weight_bits(override(fpq, "post", "fpq"), one) == 4 + 32 / 4096 + 8 / 4096
    assert weight_bits(override(fpq, "post", {"fpq": {"shifts": False}}), one) == 4 + 32 / 4096
    shares = [
        (weight_bits(after("mxfp4", branch), [layer]), layer.count * layer.inputs * layer.outputs)
        for layer in LLAMA3_8B
    ]
    total = sum(size for _, size in shares)
    assert weight_bits(after("mxfp4", branch)) == pytest.approx(sum(bits * size for bits, size in shares) / total)


def test_the_front_and_the_page(tmp_path: Path) -> None:
    """A branch halves what is lost: more bits and time, less lost; no configuration is better in both."""
    sweep = sweep_of(tmp_path, TEXT)

    def lost(labels: object) -> float:
        recipe = str(labels["recipe"])  # type: ignore[index]
        own = LOST.get(recipe, 0.0)
        return 1.0 + own * (0.5 if "branch" in str(labels.get("post")) else 1.0)  # type: ignore[attr-defined]

    records = records_of(sweep, lost)
    table = tabulate(sweep, records)
    found = post_front(sweep, table, aggregate_seeds(table))
    by_name = {one.config: one for one in found}
    assert len(found) == 7
    assert {one.widths for one in found} == {"W4A4", "W8A8", "W16A16"}
    assert [one.weight_bits for one in found] == sorted(one.weight_bits for one in found)
    assert {name for name, one in by_name.items() if not one.by_bits} == {"nvfp4_plain post=rtn"}  # a branch has fewer
    assert by_name["mxfp4 post=rtn"].by_time
    assert by_name["bf16"].time == 1
    best = by_name[min((n for n in by_name if n.startswith("nvfp4")), key=lambda n: by_name[n].lost)]
    said = best_at_four_bits(found)
    assert said.startswith(f"At W4A4 {best.config} loses least: ")
    assert f"{best.weight_bits:.2f} bits per weight" in said
    assert "The fastest is " in said
    path = write_report(sweep, records, tmp_path / "out")
    page = path.read_text(encoding="utf-8")
    assert 'id="after-training"' in page
    assert "bits per weight" in page
    (data,) = (tmp_path / "out").rglob("after-training.csv")
    rows = list(csv.DictReader(data.open(encoding="utf-8")))
    assert {row["config"] for row in rows} == set(by_name)


def test_bits_are_those_of_the_models_that_were_quantized(tmp_path: Path) -> None:
    """A branch that takes 7 bits per weight in small layers is no W4A4, however few it takes in large ones."""
    sweep = sweep_of(tmp_path, TEXT)
    records = records_of(sweep, lambda labels: 0.9 if "branch" in str(labels.get("post")) else 1.0)
    bits = {cell.uid: 7.0 if "branch" in cell.config else 4.25 for cell in sweep.cells if cell.trial.recipe.post}
    records = [
        replace(one, pack={"post": {"bits_per_weight": bits[one.uid]}}) if one.uid in bits else one for one in records
    ]
    table = tabulate(sweep, records)
    found = post_front(sweep, table, aggregate_seeds(table))
    assert {one.weight_bits for one in found if "branch" in one.config} == {7.0}
    assert all(one.large_bits < 5 for one in found if one.widths == "W4A4")
    said = best_at_four_bits(found)
    assert "branch" not in said.partition(" loses least")[0]
    assert "more than 5 bits per weight here" in said


def test_a_page_of_quantization_after_training_speaks_of_it_first(tmp_path: Path) -> None:
    """Nothing on the first screen is about the time of a training step, nor calls the quantization training."""
    sweep = sweep_of(tmp_path, TEXT.replace("tasks: [lm]", "tasks: [lm, regression]"))
    records = records_of(sweep, lambda labels: 1.0 + LOST.get(str(labels["recipe"]), 0.0) * (1 + 0.1 * labels["seed"]))
    page = write_report(sweep, records, tmp_path / "out").read_text(encoding="utf-8")
    first = page[page.index('<header id="findings">') : page.index('<section id="after-training">')]
    assert page.index('<section id="after-training">') < page.index('<section id="pareto">')
    assert "Quantization after training: accuracy against bits per weight" in first
    assert first.index("<b>Quantization after training.</b>") < first.index("<b>Order of the recipes.</b>")
    assert "Quantization to 4 bits after training costs most on" in first
    assert "bit training" not in first
    assert "Accuracy against time" not in first
    assert "time of a training step" not in page.lower().split("<script")[0]


def test_a_sweep_without_post_training_has_none(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [bf16, mxfp4]\nseeds: 2\n")
    table = tabulate(sweep, records_of(sweep, lambda labels: 1.0))
    assert post_front(sweep, table, aggregate_seeds(table)) == []
    assert best_at_four_bits([]) == ""


MIXES = """
tasks: [lm]
recipes:
  - bf16
  - four: {base: nvfp4_plain}
  - bf16_first: {base: nvfp4_plain, layers: [{first: 1, recipe: bf16}]}
  - left_first: {base: nvfp4_plain, layers: [{first: 1, recipe: none}]}
  - exempt_first: {base: nvfp4_plain, exempt: {first: 1}}
  - int8_first: {base: nvfp4_plain, layers: [{first_blocks: 1, recipe: mxint8}]}
seeds: 2
post: [rtn]
"""


def test_mixes_of_widths_are_not_announced_as_four_bits(tmp_path: Path) -> None:
    """Whoever gives a layer other widths: a rule with a recipe, one without, exemption, or a search's choice."""
    sweep = sweep_of(tmp_path, MIXES)
    lost = {"bf16": 0.0, "four": 0.3, "bf16_first": 0.01}
    records = records_of(sweep, lambda labels: 1.0 + lost.get(str(labels["recipe"]), 0.1))
    after = {cell.uid: cell for cell in sweep.cells if cell.trial.recipe.post}

    def tells(one: Record, facts: dict[str, object]) -> Record:
        return replace(one, pack={"post": facts}) if one.uid in after else one

    def found(records: list[Record]) -> dict[str, PostConfig]:
        table = tabulate(sweep, records)
        return {one.recipe: one for one in post_front(sweep, table, aggregate_seeds(table))}

    unknown = found(records)
    assert {name for name, one in unknown.items() if one.widths == "W4A4"} == {"four"}
    assert {name for name, one in unknown.items() if one.widths == "mixed"} == set(unknown) - {"bf16", "four"}
    said = best_at_four_bits(list(unknown.values()))
    assert said.startswith("At W4A4 four post=rtn loses least")
    assert "4 configurations with layers of several widths" in said
    assert "bf16_first post=rtn loses least: 1" in said
    assert f"{unknown['bf16_first'].weight_bits:.2f} bits per weight" in said
    first = 4096 * 4096 / sum(layer.weights for layer in LLAMA3_8B)  # q of the first block
    for name in ("bf16_first", "left_first", "exempt_first"):
        assert unknown[name].large_bits == pytest.approx(
            16 * first + (1 - first) * unknown["four"].large_bits, rel=1e-4
        )
    old = found([tells(one, {"bits_per_weight": 4.5, "weights": 100}) for one in records])
    assert old["exempt_first"].weight_bits == old["exempt_first"].large_bits  # it did not count what is left
    assert old["four"].weight_bits == 4.5
    new = found([tells(one, {"bits_per_weight": 7.0, "weights": 100, "left_weights": 20}) for one in records])
    assert (new["exempt_first"].weight_bits, new["exempt_first"].widths) == (7.0, "mixed")
    none = found([tells(one, {"bits_per_weight": 4.5, "weights": 100, "left_weights": 0}) for one in records])
    assert none["exempt_first"].widths == "W4A4"  # nothing in these models was left
    assert none["int8_first"].widths == "mixed"


def test_a_search_is_placed_by_what_it_chose(tmp_path: Path) -> None:
    """Shares (1, 0) under a budget of 8 bits: W4A4, at the time of NVFP4."""
    text = "tasks: [lm]\nrecipes: [bf16, nvfp4_plain]\nseeds: 2\npost: [rtn, {autoquantize: {bits: 8}}]\n"
    sweep = sweep_of(tmp_path, text)
    made = records_of(sweep, lambda labels: 1.0)
    searched = {cell.uid for cell in sweep.cells if "autoquantize" in cell.config}

    def places(first: float) -> tuple[PostConfig, PostConfig]:
        facts = {"bits_per_weight": 4.5, "weights": 100, "left_weights": 0, "format_shares": [first, 1 - first]}
        records = [replace(one, pack={"post": facts}) if one.uid in searched else one for one in made]
        table = tabulate(sweep, records)
        own = {one.config: one for one in post_front(sweep, table, aggregate_seeds(table))}
        return next(one for name, one in own.items() if "auto" in name), own["nvfp4_plain post=rtn"]

    whole, plain = places(1.0)
    assert (whole.widths, whole.time, whole.large_bits) == ("W4A4", pytest.approx(plain.time), plain.large_bits)
    half, _ = places(0.5)
    assert (half.widths, half.time) == ("mixed", pytest.approx((plain.time + 1) / 2))
    assert half.large_bits == pytest.approx((plain.large_bits + 16) / 2)
