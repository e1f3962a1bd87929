"""Paired differences: which cells make a pair, and what is computed from them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dse.report.analysis.configs import ALL, aggregate_seeds
from dse.report.analysis.effects import BASELINE, OPTION, VERSUS, Effect, option_effects, recipe_pairs
from dse.report.analysis.noise_words import in_doubt
from dse.report.analysis.tidy import tabulate
from dse.report.findings import findings
from dse.stats import combine, estimate, holm
from tests.report.studies import diverged, records_of, sweep_of, table_of

GRID = """
    tasks: [lm, regression]
    recipes: [mxfp4, nvfp4_plain]
    seeds: 3
    grid: {G.rounding: [nearest_even, stochastic], '*.block': [16, 32]}
"""


def rule(at: Mapping[str, Any]) -> float:
    """Baseline 1, loss from 2: a gap is the improvement lost. Stochastic G helps by 0.01 (1 + seed), on lm twice."""
    base = 1.0
    if at["recipe"] == "bf16":
        return base
    gap = {"mxfp4": 0.3, "nvfp4_plain": 0.1}[at["recipe"]] + 0.001 * at["*.block"]
    helps = 0.01 * (1 + at["seed"]) * (2 if at["task"] == "lm" else 1)
    return base + gap - (helps if at["G.rounding"] == "stochastic" else 0.0)


def one(found: list[Effect], **fields: Any) -> Effect:
    (match,) = [e for e in found if all(getattr(e, name) == value for name, value in fields.items())]
    return match


def test_an_option_by_hand(tmp_path: Path) -> None:
    found = option_effects(table_of(tmp_path, GRID, rule))
    regression = one(found, kind=OPTION, axis="G.rounding", scope="regression")
    assert (regression.value, regression.reference) == ("stochastic", "nearest_even")
    assert regression.pairs == 3 * 2 * 2
    one_sided = regression.only_value_diverged, regression.only_reference_diverged
    assert (regression.better, regression.worse, *one_sided) == (12, 0, 0, 0)
    assert regression.lost.n == 3  # pairs of one seed are averaged first
    expected = estimate([-0.01, -0.02, -0.03])
    assert regression.lost.mean == pytest.approx(expected.mean)
    assert regression.lost.half == pytest.approx(expected.half)
    assert regression.gap is not None
    assert regression.gap.half == pytest.approx(expected.half)
    whole = one(found, kind=OPTION, axis="G.rounding", scope=ALL, recipe="")
    both = combine([expected, estimate([-0.02, -0.04, -0.06])])
    assert (whole.lost.mean, whole.lost.half) == pytest.approx((both.mean, both.half))
    assert whole.gap is None
    assert one(found, axis="*.block", value="32", scope="lm").lost.mean == pytest.approx(0.016)
    assert {e.recipe for e in found if e.axis == "G.rounding"} == {"", "mxfp4", "nvfp4_plain"}


def test_recipes_against_the_baseline_and_each_other(tmp_path: Path) -> None:
    found = option_effects(table_of(tmp_path, GRID, rule))
    against = one(found, kind=BASELINE, value="mxfp4", scope="regression")
    assert (against.reference, against.pairs) == ("bf16", 12)
    assert against.lost.mean == pytest.approx(0.3 + 0.024 - 0.02 / 2)
    pairs = recipe_pairs(found)
    assert pairs["nvfp4_plain", "mxfp4"].lost.mean == pytest.approx(-0.2)
    assert pairs["mxfp4", "nvfp4_plain"].lost.mean == pytest.approx(0.2)
    assert (pairs["mxfp4", "nvfp4_plain"].better, pairs["mxfp4", "nvfp4_plain"].worse) == (0, 24)


def test_p_values_are_adjusted_within_their_family(tmp_path: Path) -> None:
    found = option_effects(table_of(tmp_path, GRID, rule))
    family = [e for e in found if e.scope == ALL and not e.recipe and e.kind != VERSUS]
    assert [e.p_holm for e in family] == pytest.approx(holm([e.lost.p for e in family]))


def test_diverged_pairs_are_counted_on_their_side(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, GRID)
    records = {r.uid: r for r in records_of(sweep, rule)}
    for cell in sweep.cells:
        if cell.labels["G.rounding"] == "stochastic" and cell.labels["seed"] == 0 and cell.labels["task"] == "lm":
            records[cell.uid] = diverged(cell)
    effect = one(option_effects(tabulate(sweep, records.values())), axis="G.rounding", scope="lm")
    assert (effect.pairs, effect.only_value_diverged, effect.only_reference_diverged, effect.lost.n) == (8, 4, 0, 2)


MERGED = """
    tasks: [lm]
    recipes: [mxfp4, {mine: {base: mxfp4, G.rounding: stochastic}}]
    seeds: 2
    grid: {G.rounding: [nearest_even, stochastic]}
"""


def test_a_trial_that_stands_for_several_cells_makes_pairs_for_each(tmp_path: Path) -> None:
    text = MERGED + "    exclude: [{recipe: mxfp4, G.rounding: stochastic}]\n"  # only mine has both values
    assert sweep_of(tmp_path, text).merged == 2  # mine with nearest_even is mxfp4
    found = option_effects(table_of(tmp_path, text, lambda at: 1.0))
    assert one(found, kind=OPTION, scope=ALL).pairs == 2


def test_the_same_two_trials_are_one_pair(tmp_path: Path) -> None:
    assert sweep_of(tmp_path, MERGED).merged == 4
    found = option_effects(table_of(tmp_path, MERGED, lambda at: 1.0))
    assert one(found, kind=OPTION, scope=ALL, recipe="").pairs == 2
    assert not recipe_pairs(found)  # mine is mxfp4, cell by cell


def test_an_axis_of_the_task_pairs_across_task_labels(tmp_path: Path) -> None:
    text = "tasks: [lm]\nrecipes: [mxfp4]\nseeds: 2\ngrid: {task.size: [tiny, small]}\n"
    gap = {"lm": 0.1, "lm(size=small)": 0.3}
    table = table_of(tmp_path, text, lambda at: 1.0 + (at["recipe"] != "bf16") * gap.get(at["task"], 0.0))
    assert len(table.tasks) == 2
    effect = one(option_effects(table), kind=OPTION, axis="task.size")
    assert (effect.pairs, effect.value) == (2, "small")
    assert effect.lost.mean == pytest.approx(0.2)


def test_findings_follow_the_numbers(tmp_path: Path) -> None:
    def say(metric: Any) -> str:
        table = table_of(tmp_path, "tasks: [lm, regression]\nrecipes: [mxfp4, nvfp4]\nseeds: 3\n", metric)
        configs = aggregate_seeds(table)
        parts = findings(table, configs, option_effects(table))
        return "\n".join([p for f in parts for p in (f.lead, f.sentence, *f.points)]).replace("\u00a0", " ")

    clear = say(lambda at: 1.0 + {"bf16": 0.0, "mxfp4": 0.2, "nvfp4": 0.02}[at["recipe"]] * (1 + 0.01 * at["seed"]))
    assert "nvfp4 2.02 ± 0.02 %, mxfp4 20.20 ± 0.23 %" in clear
    assert "Told apart by the paired differences of these (Holm p < 0.05): nvfp4 before mxfp4 by 18.18" in clear
    assert "None loses less than 1 %. The closest: nvfp4 loses 2.02 ± 0.02 % of the improvement at" in clear
    assert "Within noise" not in clear
    noisy = say(lambda at: 1.0 + (at["recipe"] != "bf16") * 0.01 * (at["seed"] - 1 + 0.1 * (at["recipe"] == "mxfp4")))
    assert "Within noise of the baseline (the 95 % interval includes zero): nvfp4 and mxfp4." in noisy
    assert "Told apart" in noisy  # every pair differs by the same amount
    single = say(lambda at: 1.1 if at["recipe"] != "bf16" and at["seed"] == 0 else 1.0 if at["seed"] == 0 else None)
    assert "There is no interval" in single
    assert "12 not run yet" in single


def test_differences_of_the_order_fit_its_means(tmp_path: Path) -> None:
    """Of recipes in the best of their configurations, the differences are of these very configurations."""
    text = "tasks: [lm]\nrecipes: [mxfp4, nvfp4]\nseeds: 3\ngrid: {G.rounding: [nearest_even, stochastic]}\n"

    def metric(at: Any) -> float:
        lost = {("mxfp4", "nearest_even"): 0.01, ("mxfp4", "stochastic"): 0.9, ("nvfp4", "stochastic"): 0.02}
        return 1.0 + lost.get((at["recipe"], at.get("G.rounding")), 0.03) * (1 + 0.01 * at["seed"]) * (
            at["recipe"] != "bf16"
        )

    table = table_of(tmp_path, text, metric)
    found = findings(table, aggregate_seeds(table), option_effects(table))
    (order,) = [one for one in found if one.lead == "Order of the recipes"]
    said = "\n".join([order.sentence, *order.points]).replace("\u00a0", " ")
    assert "mxfp4 1.01 ± 0.02 %, nvfp4 2.02 ± 0.05 %." in said  # over all pairs mxfp4 loses 43 points more
    assert "mxfp4 before nvfp4 by 1.01 ± 0.02 points" in said


def test_of_many_recipes_the_narrow_ones_that_lose_least(tmp_path: Path) -> None:
    narrow = ["mxfp4", "nvfp4", "nvfp4_plain", "ue5m3", "tetrajet", "quartet", "quartet2", "hif4", "mixfp4", "razer"]
    names = ["bf16", "mxfp8", *narrow]
    text = f"tasks: [lm]\nrecipes: [{', '.join(names[1:])}]\nseeds: 2\n"
    table = table_of(tmp_path, text, lambda at: 1.0 + 0.01 * names.index(at["recipe"]) * (1 + 0.01 * at["seed"]))
    order = findings(table, aggregate_seeds(table), option_effects(table))[0]
    assert order.lead == "Order of the 4-bit recipes"
    assert "of the 8 of 10 4-bit recipes that lose least" in order.sentence
    assert "mixfp4" not in order.sentence
    assert "razer" not in order.sentence
    assert any(point.startswith("Wider ones: mxfp8") for point in order.points)


def test_doubt_agrees_with_the_interval() -> None:
    sure, weak, none = estimate([1.0, 1.1, 1.2]), estimate([0.8, 1.0, 1.6]), estimate([-1.0, 1.1, 0.2])
    assert weak.excludes_zero
    assert in_doubt(sure) == in_doubt(weak) == ""
    assert in_doubt(none) == in_doubt(none, 0.9, 7) == "within the noise"
    assert in_doubt(weak, 0.2, 7).endswith("after Holm's correction for 7 comparisons")
    assert in_doubt(estimate([1.0])) == "one seed, no interval"
    assert in_doubt(estimate([])) == "unknown"


def test_without_records_there_are_no_effects(tmp_path: Path) -> None:
    table = table_of(tmp_path, GRID, lambda at: None)
    assert all(math.isnan(e.lost.mean) and e.pairs == 0 for e in option_effects(table))
    assert findings(table, aggregate_seeds(table), option_effects(table)) == []
