"""Several baselines: gaps to each, and pairs with configurations that are baselines themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dse.report import write_report
from dse.report.analysis.configs import aggregate_seeds
from dse.report.analysis.effects import BASELINE, OPTION, VERSUS, option_effects
from dse.report.analysis.tidy import tabulate
from dse.report.sections.table_rows import config_rows
from tests.report.studies import records_of, sweep_of

pytestmark = pytest.mark.usefixtures("few_pictures")

TWO = """
    tasks: [lm]
    recipes: [mxfp4, nvfp4]
    seeds: 3
    baseline: [bf16, {plain: {recipe: nvfp4, wgrad.rotation: none}}]
    grid: {wgrad.rotation: [none, hadamard]}
"""
OWN = TWO.replace("[bf16, {plain: {recipe: nvfp4, wgrad.rotation: none}}]", "{recipe: nvfp4, wgrad.rotation: none}")


def rule(at: Mapping[str, Any]) -> float:
    """Baseline 1 and seed noise that pairs share; a rotation helps by 0.05."""
    gap = {"bf16": 0.0, "mxfp4": 0.3, "nvfp4": 0.1}[at["recipe"]]
    helps = 0.05 if str(at.get("wgrad.rotation") or "none") != "none" else 0.0
    return 1.0 + 0.01 * at["seed"] + gap - helps


def test_gaps_to_every_named_baseline(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TWO)
    table = tabulate(sweep, records_of(sweep, rule))
    assert table.others == ["plain"]
    frame = table.frame.set_index(["config", "seed"])
    row = frame.loc[("mxfp4 wgrad.rotation=hadamard", "1")]
    assert row["gap"] == pytest.approx(0.25)
    assert row["gap[plain]"] == pytest.approx(0.15)
    assert row["lost[plain]"] == pytest.approx(0.15 / (2.0 - 1.11))
    configs = aggregate_seeds(table).set_index(["task", "config"])
    assert configs.loc[("lm", "mxfp4 wgrad.rotation=none"), "gap_mean[plain]"] == pytest.approx(0.2)
    assert configs.loc[("lm", "bf16"), "gap_mean[plain]"] == pytest.approx(-0.1)
    rows = config_rows(aggregate_seeds(table), "lm", (), table.others)
    assert {len(row.cells) for row in rows} == {9}
    html = write_report(sweep, records_of(sweep, rule), tmp_path).read_text(encoding="utf-8")
    assert "gap to plain" in html
    assert "gap to bf16" in html


@pytest.mark.parametrize("text", [TWO, OWN])
def test_a_configuration_that_is_a_baseline_makes_pairs(text: str, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, text)
    found = option_effects(tabulate(sweep, records_of(sweep, rule)))
    (option,) = [e for e in found if e.kind == OPTION and not e.recipe]
    assert (option.value, option.reference, option.pairs) == ("hadamard", "none", 2 * 3)
    assert option.gap is not None
    assert option.gap.mean == pytest.approx(-0.05)
    (versus,) = [e for e in found if e.kind == VERSUS and {e.value, e.reference} == {"mxfp4", "nvfp4"}]
    assert versus.pairs == 6
    assert not [e for e in found if e.kind == VERSUS and "bf16" in (e.value, e.reference)]


def test_a_baseline_is_not_compared_with_itself(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, OWN)
    found = {e.value: e for e in option_effects(tabulate(sweep, records_of(sweep, rule))) if e.kind == BASELINE}
    assert found["nvfp4"].pairs == 3  # with a rotation
    assert found["mxfp4"].pairs == 6


def test_baselines_at_two_learning_rates_are_no_pair(tmp_path: Path) -> None:
    text = "tasks: [lm]\nrecipes: [mxfp4]\nseeds: 2\ngrid: {training.lr: [1e-3, 2e-3]}\n"
    sweep = sweep_of(tmp_path, text)
    (effect,) = [e for e in option_effects(tabulate(sweep, records_of(sweep, lambda at: 1.0))) if e.kind == OPTION]
    assert effect.pairs == 2
