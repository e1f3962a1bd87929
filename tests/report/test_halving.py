"""Trials that successive halving stopped: at equal budget, never among full-budget numbers."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from dse.report import write_report
from dse.report.analysis.configs import aggregate_seeds
from dse.report.analysis.rungs import rung_tables
from dse.report.analysis.tidy import MISSING, tabulate
from dse.report.sections.problems import stops
from dse.report.sections.table_rows import config_rows
from dse.results.record import OK, STOPPED, Record
from dse.sweep import Cell
from tests.report.studies import INITIAL, record, sweep_of

pytestmark = pytest.mark.usefixtures("few_pictures")

TEXT = """
    tasks: [{regression: {training: {steps: 10}}}]
    recipes: [mxfp4, nvfp4]
    seeds: 2
    search: {method: grid, halving: {eta: 2, rungs: [0.2, 0.5]}}
    grid: {G.rounding: [nearest_even, stochastic]}
"""
END = {"bf16": 1.0, "mxfp4": 1.4, "nvfp4": 1.1}


def _full(cell: Cell) -> Record:
    """1 higher at step 2 than at the end, half of it at step 5."""
    end = END[str(cell.labels["recipe"])] + 0.01 * cell.trial.seed
    return replace(record(cell, end), evals=[[0, INITIAL], [2, end + 0.8], [5, end + 0.5], [10, end]])


def _stopped(cell: Cell, rung: int, step: int) -> Record:
    full = _full(cell)
    evals = [point for point in full.evals if point[0] is not None and point[0] <= step]
    at = {"rung": rung, "step": step, "metric": evals[-1][1]}
    return replace(full, status=STOPPED, metric=None, evals=evals, stopped=at)


def _records(cells: tuple[Cell, ...]) -> list[Record]:
    """mxfp4 with nearest_even stops at rung 1, with stochastic at rung 2 with one seed of two."""
    found = []
    for cell in cells:
        recipe, rounding, seed = cell.labels["recipe"], cell.labels["G.rounding"], cell.trial.seed
        if recipe == "mxfp4" and rounding == "nearest_even":
            found.append(_stopped(cell, 1, 2))
        elif recipe == "mxfp4" and seed == 0:
            found.append(_stopped(cell, 2, 5))
        else:
            found.append(_full(cell))
    return found


def test_who_stopped_when(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    first, second = stops(tabulate(sweep, _records(sweep.cells)))
    assert (first.config, first.rung, first.step, first.seeds) == (
        "mxfp4 G.rounding=nearest_even",
        1,
        2,
        "2 of 2: 0, 1",
    )
    assert (second.rung, second.step, second.seeds, second.metric) == (2, 5, "1 of 2: 0", "1.90")
    assert second.why.startswith("dse why ")


def test_equal_budget_beside_the_final_one(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    (ladder,) = rung_tables(sweep, tabulate(sweep, _records(sweep.cells)))
    assert ladder.heads == ["step 2 (20 %)", "step 5 (50 %)"]
    assert ladder.end == "step 10"
    by = {one.config: one for one in ladder.results}
    early = by["mxfp4 G.rounding=nearest_even"]
    assert early.rungs[0].metric.n == 2
    assert early.rungs[0].gap.mean == pytest.approx(0.4)  # to the baseline at the same step
    assert early.rungs[1].metric.n == early.final.metric.n == 0
    assert early.reached == "2 to rung 1"
    partly = by["mxfp4 G.rounding=stochastic"]
    assert (partly.rungs[1].metric.n, partly.final.metric.n, partly.final.gap.n) == (2, 1, 1)
    assert partly.reached == "1 to the end, 1 to rung 2"
    assert ladder.results[0].baseline
    assert ladder.results[-1] is early


def test_stopped_trials_are_in_no_mean_and_on_no_front(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    configs = aggregate_seeds(tabulate(sweep, _records(sweep.cells))).set_index(["task", "config"])
    early, partly = (configs.loc[("regression", f"mxfp4 G.rounding={r}")] for r in ("nearest_even", "stochastic"))
    assert math.isnan(early["gap_mean"])
    assert math.isnan(early["metric_mean"])
    assert early["why"] == "stopped (2 seeds)"
    assert (partly["seeds"], partly["stopped"], partly["ok"]) == (1, 1, 1)
    assert partly["metric_mean"] == pytest.approx(1.41)
    assert not partly["eligible"]
    assert not partly["front"]


def test_to_a_sweep_without_halving_they_have_not_run(tmp_path: Path) -> None:
    records = _records(sweep_of(tmp_path, TEXT).cells)
    plain = sweep_of(tmp_path, "\n".join(line for line in TEXT.splitlines() if "search" not in line))
    table = tabulate(plain, records)
    assert {r.uid for r in records} == {cell.uid for cell in plain.cells}
    assert set(table.frame["status"]) == {OK, MISSING}
    assert rung_tables(plain, table) == []


def test_the_page_shows_them(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    html = write_report(sweep, _records(sweep.cells), tmp_path).read_text(encoding="utf-8")
    assert 'id="budget"' in html
    assert "Stopped by successive halving" in html
    assert "3 stopped early" in html
    assert "1 to the end, 1 to rung 2" in html


def test_many_baselines_leave_the_first_rows_to_what_is_compared(tmp_path: Path) -> None:
    """A learning rate of the sweep gives each rate a baseline; tables show their first rows."""
    text = TEXT.replace("grid: {G.rounding: [nearest_even, stochastic]}", "grid: {training.lr: [1e-3, 2e-3, 3e-3]}")
    sweep = sweep_of(tmp_path, text)
    table = tabulate(sweep, [_full(cell) for cell in sweep.cells])
    (found,) = rung_tables(sweep, table)
    assert [one.baseline for one in found.results] == [False] * 6 + [True] * 3
    rows = config_rows(aggregate_seeds(table), "regression", [])
    assert [row.baseline for row in rows] == [False] * 6 + [True] * 3
    single = sweep_of(tmp_path, TEXT)
    (found,) = rung_tables(single, tabulate(single, [_full(cell) for cell in single.cells]))
    assert [one.baseline for one in found.results] == [True] + [False] * 4
