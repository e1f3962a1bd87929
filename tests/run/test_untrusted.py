"""Results and reports of other people: what is stored is shown, and never run."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from dse.commands import power, sweeps
from dse.commands.status import status
from dse.commands.why import why
from dse.errors import UserError
from dse.report.csv_files import escape_formula, write_csv
from dse.results.manifest import read_manifests
from dse.results.record import Record
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.run.tracking import mlflow_runs
from dse.sweep import Sweep
from dse.tasks.own import _FOUND
from dse.train.options import RunOptions
from dse.trial import Trial

Make = Callable[..., Record]
EVIL = "./evil.py:Mine"


@pytest.fixture
def poisoned(sweep: Sweep, make_record: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, str]:
    """A results folder with a record that names a task by the path of a file that says when it is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('executed', 'w').close()\n", encoding="utf-8")
    store = Store(tmp_path / "results")
    run_sweep(sweep, store, RunOptions("local", track=False, progress=False))
    spec = {**sweep.cells[2].trial.spec, "task": EVIL, "options": {"width": 3}}
    record = make_record(uid="evil5678", task=EVIL, trial=spec, config="mxfp4", baseline_uid=sweep.cells[0].uid)
    store.append(record)
    store.close()
    return store, "evil5678"


def test_nothing_that_shows_results_imports_a_task_they_name(
    sweep: Sweep, poisoned: tuple[Store, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, uid = poisoned
    why(uid, store.folder)
    out = capsys.readouterr().out
    assert f"task      {EVIL}(width=3) (code of its own, not imported)" in out
    assert "fprop.lhs" in out
    status(None, store.folder)
    assert EVIL in capsys.readouterr().out
    status(sweep.path, store.folder)
    sweeps.plan(sweep.path, store.folder, None, 1)
    sweeps.report([sweep.path], store.folder, tmp_path / "reports")
    power.power(sweep.path, store.folder, ())
    mlflow_runs.rebuild(store)
    assert read_manifests(store.folder)
    assert not (tmp_path / "executed").exists()
    assert not any("evil" in name for name in (*_FOUND, *sys.modules))


def test_a_stored_trial_is_no_reason_to_import(poisoned: tuple[Store, str], tmp_path: Path) -> None:
    spec = {**poisoned[0].records([poisoned[1]])[0].trial}
    with pytest.raises(UserError, match="is code at a path; it is imported for a sweep that names it"):
        Trial.from_spec(spec)
    assert not (tmp_path / "executed").exists()


def test_cells_that_a_spreadsheet_would_run(tmp_path: Path) -> None:
    texts = ["=cmd|'/C calc'!A0", "+1+1", "@SUM(1)", "-2+3", "\tx", "\rx", "mxfp4", "-2", "+1e-3", "-", ""]
    frame = pd.DataFrame({"=label": texts, "gap": [-1.5] * len(texts), "mixed": [-2, *texts[1:]]})
    write_csv(frame, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["'=label", "gap", "mixed"]
    assert [row[0] for row in rows[1:]] == [
        *("'" + text for text in texts[:5]),
        "'\nx",
        "mxfp4",
        "-2",
        "+1e-3",
        "'-",
        "",
    ]
    assert {row[1] for row in rows[1:]} == {"-1.5"}
    assert rows[1][2] == "-2"
    assert escape_formula(-3.0) == -3.0


def test_error_texts_in_csv_files(sweep: Sweep, poisoned: tuple[Store, str], tmp_path: Path) -> None:
    store, _ = poisoned
    bad = replace(store.records([sweep.cells[3].uid])[0], status="failed", metric=None, error="=1+1")
    store.append(replace(bad, started="2099-01-01T00:00:00+00:00"))
    store.close()
    sweeps.report([sweep.path], store.folder, tmp_path / "reports")
    for path in (tmp_path / "reports").rglob("*.csv"):
        with path.open(encoding="utf-8", newline="") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row]
        assert not [cell for cell in cells if cell[:1] in tuple("=@\t\r")]
