"""Rank correlations against scipy's, and what a report says of tasks whose rankings are known."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dse.recipes import RECIPES
from dse.report import write_report
from dse.report.analysis.agreement import RankingComparison, compare_rankings
from dse.report.analysis.published import PUBLISHED_RANKINGS, recipe_content
from dse.report.analysis.rank_correlation import kendall, spearman
from dse.report.analysis.tidy import tabulate
from dse.sweep import load_sweep
from tests.report.studies import diverged, record, sweep_of

pytestmark = pytest.mark.usefixtures("few_pictures")

GAPS = {
    "mxfp8": 0.001, "ue5m3": 0.03, "nvfp4": 0.04, "nvfp4_plain": 0.05, "fusion_mxfp4_h32": 0.06, "fusion_nvfp4": 0.08,
    "fusion_mxfp4": 0.10, "mxfp4": 0.13,
}  # fmt: skip
TEXT = f"""
    tasks: [regression, image, lm]
    recipes: [{", ".join(GAPS)}]
    seeds: 4
"""
LARGEST = "lm"


def test_correlations_are_scipys() -> None:
    seed = 5
    print("seed", seed)
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 6, (2, 40, 9)).astype(float)  # many ties
    a[0, :3] = math.inf
    for mine, theirs in ((spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        expected = [theirs(np.where(np.isinf(x), 99, x), y).statistic for x, y in zip(a, b, strict=True)]
        np.testing.assert_allclose(mine(a, b), expected, atol=1e-12)
    assert np.isnan(spearman(np.ones((1, 5)), np.arange(5.0)[None])).all()


def found(tmp_path: Path, metric: Any, noise: float = 0.0, text: str = TEXT) -> RankingComparison:
    """``metric(task, gap)`` is the gap that a task shows of a recipe whose true one is ``gap``."""
    random = np.random.default_rng(3)
    sweep = sweep_of(tmp_path, text)
    records = []
    for cell in sweep.cells:
        task, recipe = str(cell.labels["task"]), str(cell.labels["recipe"])
        gap = 0.0 if cell.is_baseline else metric(task, GAPS[recipe]) + noise * random.standard_normal()
        made = record(cell, 0.5 + 0.1 * cell.trial.seed + gap)
        records.append(replace(made, seconds=9.0 if task == LARGEST else 1.0))
    result = compare_rankings(tabulate(sweep, records))
    assert result is not None
    return result


def test_a_known_order_and_a_reversed_one(tmp_path: Path) -> None:
    signs = {"regression": -1.0, "image": 0.3, "lm": 1.0}
    result = found(tmp_path, lambda task, gap: signs[task] * gap, noise=1e-5)
    assert result.reference == LARGEST
    by = {one.task: one for one in result.agreements}
    assert set(by) == {"regression", "image"}
    pairs = math.comb(len(GAPS), 2)
    for task, sign in (("image", 1), ("regression", -1)):
        one = by[task]
        assert (one.rho.value, one.tau.value) == (pytest.approx(sign), pytest.approx(sign))
        assert one.rho.low == pytest.approx(sign)
        assert (one.decided, one.rho.n) == (pairs, len(GAPS))
        assert len(one.reversals) == (pairs if sign < 0 else 0)
    worst = by["regression"].reversals[0]
    assert (worst.better, worst.worse) == ("mxfp8", "mxfp4")
    assert worst.there == pytest.approx(0.129, abs=1e-3)
    assert worst.here == pytest.approx(-0.129, abs=1e-3)
    assert all(one.split_half == pytest.approx(1) for one in result.tasks)


def test_two_swapped_neighbors_have_the_textbook_value(tmp_path: Path) -> None:
    swap = {GAPS["mxfp4"]: GAPS["fusion_mxfp4"], GAPS["fusion_mxfp4"]: GAPS["mxfp4"]}
    result = found(tmp_path, lambda task, gap: swap.get(gap, gap) if task == "image" else gap)
    one = next(a for a in result.agreements if a.task == "image")
    n = len(GAPS)
    assert one.rho.value == pytest.approx(1 - 6 * 2 / (n * (n * n - 1)))  # 1 - 6 sum d^2 / (n (n^2 - 1))
    assert one.tau.value == pytest.approx(1 - 2 * 1 / math.comb(n, 2))
    assert [(r.better, r.worse) for r in one.reversals] == [("fusion_mxfp4", "mxfp4")]


def test_noise_lowers_what_a_task_repeats_and_decides_nothing(tmp_path: Path) -> None:
    result = found(tmp_path, lambda task, gap: 0.0 if task == "image" else gap, noise=0.01)
    noisy = next(one for one in result.tasks if one.task == "image")
    clear = next(one for one in result.tasks if one.task == "lm")
    assert clear.split_half > 0.85
    assert noisy.split_half < 0.5
    one = next(a for a in result.agreements if a.task == "image")
    assert one.rho.low < 0 < one.rho.high or abs(one.rho.value) < 0.9
    assert one.rho.high - one.rho.low > 0.5
    assert not one.reversals


def test_the_interval_covers_the_true_correlation(tmp_path: Path) -> None:
    """True gaps are in the same order; what noise does to the estimate, the interval must admit."""
    result = found(tmp_path, lambda task, gap: gap, noise=0.004)
    for one in result.agreements:
        assert one.rho.low <= one.rho.value <= one.rho.high
        assert one.rho.high > 0.9


def test_diverged_configurations_are_last(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    records = []
    for cell in sweep.cells:
        recipe = str(cell.labels["recipe"])
        bad = recipe == "ue5m3" and cell.trial.seed == 0 and cell.trial.task.name == "image"
        records.append(diverged(cell) if bad else record(cell, 0.5 + GAPS.get(recipe, 0.0)))
    result = compare_rankings(tabulate(sweep, records))
    assert result is not None
    image = next(one for one in result.tasks if one.task == "image")
    assert image.means["ue5m3"] == math.inf
    assert sorted(image.means, key=image.means.__getitem__)[-1] == "ue5m3"
    behind = {name for name, gap in GAPS.items() if gap > GAPS["ue5m3"]}
    for one in result.agreements:
        if "image" in (one.task, result.reference):
            assert one.decided == math.comb(len(GAPS), 2)
            assert {r.better if r.worse == "ue5m3" else r.worse for r in one.reversals} == behind
            assert all(math.isinf(r.here if one.task == "image" else r.there) for r in one.reversals)


def test_where_the_baseline_diverges_too_nothing_is_known(tmp_path: Path) -> None:
    """Else who survives these settings would have no gap, and who does not an infinite one."""
    sweep = sweep_of(tmp_path, TEXT)
    gone = [cell for cell in sweep.cells if cell.trial.seed == 0 and cell.labels["recipe"] in ("bf16", "ue5m3")]
    records = [
        diverged(cell) if cell in gone else record(cell, 0.5 + GAPS.get(str(cell.labels["recipe"]), 0.0))
        for cell in sweep.cells
    ]
    result = compare_rankings(tabulate(sweep, records))
    assert result is not None
    for one in result.tasks:
        assert one.means["ue5m3"] == pytest.approx(GAPS["ue5m3"])
        assert one.seeds == 3


def test_nothing_to_compare(tmp_path: Path) -> None:
    for text in ("tasks: [lm]\nrecipes: [mxfp4, nvfp4, mxfp8, ue5m3]", "tasks: [lm, image]\nrecipes: [mxfp4, nvfp4]"):
        sweep = sweep_of(tmp_path, text)
        assert compare_rankings(tabulate(sweep, [record(cell, 0.5) for cell in sweep.cells])) is None
        assert compare_rankings(tabulate(sweep, [])) is None


def test_published_rankings_are_met_by_content(tmp_path: Path) -> None:
    result = found(tmp_path, lambda task, gap: gap if task == "lm" else -gap)
    fusion = {one.task: one for one in result.comparisons if one.published.name == "Format-aware fusion"}
    # published: nvfp4 < fusion_mxfp4_h32 < fusion_nvfp4 < fusion_mxfp4, and so it is in GAPS
    assert (fusion["lm"].agree, fusion["lm"].pairs, fusion["lm"].rho.value) == (6, 6, pytest.approx(1))
    assert (fusion["image"].agree, fusion["image"].tau.value) == (0, pytest.approx(-1))
    assert (fusion["lm"].decided, fusion["lm"].confirmed) == (6, 6)
    assert (fusion["image"].decided, fusion["image"].confirmed) == (6, 0)
    assert {one.published.name for one in result.comparisons} == {"Format-aware fusion"}  # others share too few


def test_what_is_within_the_noise_contradicts_no_published_ranking(tmp_path: Path) -> None:
    result = found(tmp_path, lambda task, gap: 0.0 if task == "image" else gap, noise=0.01)
    fusion = {one.task: one for one in result.comparisons}
    assert fusion["image"].decided == 0 < fusion["image"].pairs
    assert 0 < fusion["lm"].confirmed == fusion["lm"].decided < fusion["lm"].pairs


def test_the_studys_recipes_are_those_of_the_published_rankings() -> None:
    sweep = load_sweep(Path(__file__).parents[2] / "sweeps" / "discrimination.yaml")
    known = {recipe_content(cell.trial.recipe) for cell in sweep.cells}
    for one in PUBLISHED_RANKINGS:
        assert len(known.intersection(one.values)) >= len(one.values) - 1, one.name
    assert len(known) >= 12 + 1
    assert recipe_content(RECIPES["nvfp4"]) in known


def test_the_page_says_who_misleads(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)

    def value(labels: Mapping[str, Any], seed: int) -> float:
        sign = -1 if labels["task"] == "image" else 1
        return 0.5 + sign * GAPS.get(str(labels["recipe"]), 0.0) * (1 + 0.01 * seed)

    records = [
        replace(record(cell, value(cell.labels, cell.trial.seed)), seconds=9.0 if cell.labels["task"] == "lm" else 1.0)
        for cell in sweep.cells
    ]
    path = write_report(sweep, records, tmp_path / "out")
    html = path.read_text(encoding="utf-8")
    assert "Which tasks rank alike" in html
    assert "<b>image</b> puts mxfp4 before mxfp8 (by" in html
    assert "<b>regression</b> puts" not in html
    rows = list(csv.DictReader((tmp_path / "out" / "x" / "agreement.csv").open(encoding="utf-8")))
    row = next(r for r in rows if r["kind"] == "reference" and r["task"] == "image")
    assert (row["against"], float(row["spearman"])) == ("lm", pytest.approx(-1))
    assert len([r for r in rows if r["kind"] == "task"]) == 3
