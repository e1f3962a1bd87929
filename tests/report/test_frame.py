"""Results as data frames: what a report's tidy table has, on the fixed results of the golden files."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import polars as pl
import pytest

from dse.report.frame import Results
from dse.report.write import write_report
from dse.run.search import with_asked_cells
from dse.sweep import load_sweep
from tests.report.studies import records_of, sweep_of

pytestmark = pytest.mark.usefixtures("few_pictures")

FIXED = Path(__file__).parents[1] / "golden" / "results"
FIRST = ["uid", "task", "recipe", "seed", "config"]


@pytest.mark.parametrize("name", ["study", "ladder", "hunt"])
def test_a_frame_is_the_table_of_trials_of_the_report(name: str, tmp_path: Path) -> None:
    results, file = Results(FIXED), FIXED / f"{name}.yaml"
    sweep = with_asked_cells(load_sweep(file), FIXED)
    frame = results.frame(file)
    write_report(sweep, results.records(file), tmp_path, FIXED)
    with (tmp_path / load_sweep(file).name / "trials.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert frame.columns == list(rows[0])
    assert frame["uid"].to_list() == [row["uid"] for row in rows] == [cell.uid for cell in sweep.cells]
    for column in ("metric", "gap", "lost", "overhead"):
        written = [float(row[column] or "nan") for row in rows]
        assert frame[column].fill_null(math.nan).to_list() == pytest.approx(written, rel=1e-5, nan_ok=True)
        assert not frame[column].is_nan().any(), "unknown is null"
    assert frame["seed"].to_list() == [cell.trial.seed for cell in sweep.cells]
    assert {"status", "gap", "overhead"} < set(frame.columns)


def test_columns_and_types_of_a_small_sweep(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [mxfp4, nvfp4]\nseeds: [3, 12]\ngrid: {training.lr: [1e-3]}\n")
    results = Results(tmp_path / "results")
    assert results.frame(sweep)["status"].unique().to_list() == ["missing"]
    known = records_of(sweep, lambda label: None if label["recipe"] == "nvfp4" else 1.0 + (label["recipe"] == "mxfp4"))
    results.store.append(*known)
    frame = results.frame(sweep)
    assert frame.columns[:6] == [*FIRST, "training.lr"]
    assert frame["seed"].dtype == pl.Int64
    assert frame.filter(pl.col("recipe") == "mxfp4")["gap"].to_list() == [1.0, 1.0]
    assert frame.filter(pl.col("recipe") == "nvfp4")["gap"].to_list() == [None, None], "unknown is null"
    assert frame["status"].to_list().count("missing") == 2
    assert "metrics.accuracy" in frame.columns
    same = results.pandas(str(sweep.path))
    assert list(same.columns) == frame.columns
    assert math.isnan(same.set_index("recipe").loc["nvfp4", "gap"].iloc[0])
    assert {record.uid for record in results.records(sweep)} == {record.uid for record in known}
