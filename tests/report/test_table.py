"""Cells joined with their records and baselines."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from dse.report.analysis.configs import ALL, aggregate_seeds
from dse.report.analysis.effects import option_effects, recipe_pairs
from dse.report.analysis.tidy import tabulate
from dse.report.sections import table_rows
from dse.report.sections.problems import merged
from dse.stats import estimate
from tests.report.studies import INITIAL, diverged, failed, record, records_of, sweep_of, table_of

SMALL = "tasks: [lm, regression]\nrecipes: [mxfp8, mxfp4, nvfp4]\nseeds: 3\n"
GAPS = {"bf16": 0.0, "mxfp8": -0.01, "mxfp4": 0.3, "nvfp4": 0.1}


def rule(labels) -> float:  # type: ignore[no-untyped-def]
    """Ends at 1.0 plus seed noise that pairs share, plus the recipe's gap, which grows with the seed."""
    seed = labels["seed"]
    return 1.0 + 0.05 * seed + GAPS[labels["recipe"]] * (1 + 0.1 * seed) * (2 if labels["task"] == "lm" else 1)


def test_gaps_are_paired_by_seed(tmp_path: Path) -> None:
    frame = table_of(tmp_path, SMALL, rule).frame.set_index(["task", "recipe", "seed"])
    assert len(frame) == 24
    for seed in range(3):
        gap = 0.3 * (1 + 0.1 * seed) * 2
        row = frame.loc[("lm", "mxfp4", str(seed))]
        assert row["gap"] == pytest.approx(gap)
        assert row["lost"] == pytest.approx(gap / (INITIAL - (1.0 + 0.05 * seed)))
        assert frame.loc[("lm", "bf16", str(seed)), "gap"] == 0
    assert (frame["why"] == "").all()
    assert frame.loc[("lm", "mxfp8", "1"), "gap"] < 0


def test_a_missing_gap_says_why(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [mxfp4, nvfp4]\nseeds: 6\n")
    at = {(cell.labels["recipe"], cell.labels["seed"]): cell for cell in sweep.cells}
    records = records_of(sweep, rule)
    kept = {r.uid: r for r in records}
    kept[at["mxfp4", 0].uid] = diverged(at["mxfp4", 0])
    kept[at["mxfp4", 1].uid] = failed(at["mxfp4", 1])
    kept[at["bf16", 2].uid] = diverged(at["bf16", 2])
    del kept[at["bf16", 3].uid], kept[at["nvfp4", 4].uid]
    kept[at["mxfp4", 4].uid] = replace(kept[at["mxfp4", 4].uid], data="other")
    kept[at["bf16", 5].uid] = record(at["bf16", 5], INITIAL + 1)
    frame = tabulate(sweep, kept.values()).frame
    why = {(row["recipe"], int(row["seed"])): row["why"] for row in frame.to_dict("records")}
    assert why["mxfp4", 0] == "diverged"
    assert why["mxfp4", 1] == "failed"
    assert why["nvfp4", 2] == "baseline diverged"
    assert why["nvfp4", 3] == "baseline not run yet"
    assert why["nvfp4", 4] == "not run yet"
    assert why["mxfp4", 4] == "baseline saw other data"
    assert why["mxfp4", 5] == "baseline did not improve"
    last = frame[(frame["recipe"] == "mxfp4") & (frame["seed"] == "5")].iloc[0]
    assert math.isfinite(last["gap"])
    assert math.isnan(last["lost"])
    assert len(frame) == len(sweep.cells)


def test_of_several_records_the_last_ok_one_counts(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [mxfp4]\nseeds: 1\n")
    base, cell = sweep.cells
    foreign = replace(record(cell, 9.0), uid="f" * 16)
    several = [record(base, 1.0), record(cell, 1.2), record(cell, 1.1), diverged(cell), failed(cell), foreign]
    table = tabulate(sweep, several)
    assert list(table.frame["metric"]) == [1.0, 1.1]
    assert set(table.records) == {base.uid, cell.uid}


def test_aggregates_over_seeds_and_tasks(tmp_path: Path) -> None:
    table = table_of(tmp_path, SMALL, rule)
    configs = aggregate_seeds(table).set_index(["task", "config"])
    frame = table.frame[table.frame["config"] == "nvfp4"]
    parts = {task: estimate(group["lost"]) for task, group in frame.groupby("task")}
    for task, part in parts.items():
        row = configs.loc[(task, "nvfp4")]
        assert (row["lost_mean"], row["lost_half"]) == (part.mean, part.half)
        assert (row["seeds"], row["ok"], row["missing"]) == (3, 3, 0)
        assert row["metric_sd"] == pytest.approx(frame[frame["task"] == task]["metric"].std())
    assert configs.loc[(ALL, "nvfp4"), "lost_mean"] == pytest.approx(sum(p.mean for p in parts.values()) / 2)
    assert configs.loc[(ALL, "bf16"), "lost_mean"] == 0
    assert bool(configs.loc[(ALL, "mxfp8"), "front_time"])


def test_the_front_is_among_equals_that_did_not_diverge(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, SMALL)
    records = {r.uid: r for r in records_of(sweep, rule)}
    configs = aggregate_seeds(tabulate(sweep, records.values())).set_index(["task", "config"])
    assert configs.loc[ALL]["front"].to_dict() == {"bf16": False, "mxfp8": False, "mxfp4": True, "nvfp4": True}
    victim = next(c for c in sweep.cells if c.labels["recipe"] == "mxfp4" and c.labels["task"] == "lm")
    records[victim.uid] = diverged(victim)
    configs = aggregate_seeds(tabulate(sweep, records.values())).set_index(["task", "config"])
    assert configs.loc[ALL]["front"].to_dict() == {"bf16": False, "mxfp8": False, "mxfp4": False, "nvfp4": True}
    assert bool(configs.loc[("regression", "mxfp4"), "front"])
    assert configs.loc[(ALL, "mxfp4"), "diverged"] == 1
    assert configs.loc[("lm", "mxfp4"), "seeds"] == 2


def test_a_task_without_a_gap_leaves_the_mean_over_tasks_unknown(tmp_path: Path) -> None:
    table = table_of(tmp_path, SMALL, lambda at: None if (at["task"], at["recipe"]) == ("lm", "mxfp4") else rule(at))
    configs = aggregate_seeds(table).set_index(["task", "config"])
    row = configs.loc[(ALL, "mxfp4")]
    assert math.isnan(row["lost_mean"])
    assert row["why"] == "not run yet on lm"
    assert not row["front"]
    assert math.isfinite(configs.loc[("regression", "mxfp4"), "lost_mean"])


def test_a_recipe_whose_every_cell_is_another_recipes_is_named(tmp_path: Path) -> None:
    text = "tasks: [lm]\nrecipes: [mxfp4, {mine: {base: mxfp4, X.block: 32}}]\nseeds: 2\n"
    sweep = sweep_of(tmp_path, text)
    table = table_of(tmp_path, text, lambda at: 1.0)
    assert table.recipes == ["bf16", "mxfp4", "mine"]
    assert merged(sweep) == {"mine": "mxfp4"}
    assert not recipe_pairs(option_effects(table))  # a trial is not compared with itself


def test_the_gap_with_inference_in_bf16(tmp_path: Path) -> None:
    """Paired by seed with the baseline's own; unknown where either record is from before, or has no end."""
    sweep = sweep_of(tmp_path, SMALL)
    primary = {"lm": "loss", "regression": "loss"}
    records = [
        replace(r, metrics_bf16={primary[r.task]: r.metric - 0.04 * (r.recipe == "mxfp4")})
        for r in records_of(sweep, rule)
    ]
    table = tabulate(sweep, records)
    frame = table.frame.set_index(["task", "recipe", "seed"])
    for seed in "012":
        row = frame.loc[("lm", "mxfp4", seed)]
        assert row["gap_bf16"] == pytest.approx(row["gap"] - 0.04)
        assert frame.loc[("lm", "nvfp4", seed), "gap_bf16"] == pytest.approx(frame.loc[("lm", "nvfp4", seed), "gap"])
    configs = aggregate_seeds(table).set_index(["task", "config"])
    row = configs.loc[("regression", "mxfp4")]
    assert row["gap_bf16_mean"] == pytest.approx(row["gap_mean"] - 0.04)
    assert row["gap_bf16_half"] == pytest.approx(row["gap_half"])
    assert configs.loc[("lm", "bf16"), "gap_bf16_mean"] == 0

    old = [replace(r, metrics_bf16={}) if r.task == "lm" and r.recipe in ("bf16", "mxfp8") else r for r in records]
    table = tabulate(sweep, old)
    assert table.frame.set_index("task")["gap_bf16"].groupby("task").count().to_dict() == {"lm": 0, "regression": 12}
    configs = aggregate_seeds(table)
    assert [table_rows.has_bf16_metrics(configs, task) for task in ("lm", "regression")] == [False, True]
    widths = [len(table_rows.config_rows(configs, task, [])[0].cells) for task in ("lm", "regression")]
    assert widths[1] == widths[0] + 1
