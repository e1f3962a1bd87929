"""Running a real, tiny sweep in this process: everything once, again nothing, and errors that say what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dse.errors import UserError
from dse.results.manifest import read_manifests
from dse.results.record import FAILED, OK, Record
from dse.results.store import Store
from dse.run.backlog import make_backlog
from dse.run.driver import Driver
from dse.run.engine import run_sweep
from dse.run.executors import make_executor
from dse.run.summary import DriverResult
from dse.run.tracking.mlflow_runs import is_behind
from dse.sweep import Sweep
from dse.train import loop, pack_run, width
from dse.train.options import RunOptions
from dse.trial import Trial


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def test_runs_every_cell_once_and_then_nothing(
    sweep: Sweep, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    summary = run_sweep(sweep, store, RunOptions("local", track=False))
    assert torch.get_num_threads() == 2
    assert (summary.total, summary.before, summary.ran, summary.ok, summary.left) == (6, 0, 6, 6, 0)
    assert not summary.stopped
    assert summary.notes == ()
    assert set(store.done()) == {cell.uid for cell in sweep.cells}
    assert {r.config for r in store.records()} == {"bf16", "mxfp4 *.block=16", "mxfp4 *.block=32"}
    assert list((store.folder / "shards").iterdir()) == []  # compacted
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "tiny: 6 trials to run, 0 done before"
    assert out[-1].startswith("6/6  0 s left  ok 6  best so far, improvement lost: regression mxfp4")

    monkeypatch.setattr(loop, "run_pack", lambda *_a, **_k: pytest.fail("ran a trial again"))
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
    again = run_sweep(sweep, store, RunOptions("ray"))
    assert (again.total, again.before, again.ran, again.ok) == (6, 6, 0, 6)
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")} == before
    assert capsys.readouterr().out == ""


def test_only_what_is_new_runs(sweep: Sweep, store: Store) -> None:
    part = replace(sweep, cells=sweep.cells[:4])
    assert run_sweep(part, store, RunOptions("local", track=False, progress=False)).ran == 4
    summary = run_sweep(sweep, store, RunOptions("local", track=False, progress=False))
    assert (summary.before, summary.ran, summary.ok) == (4, 2, 6)
    manifest = json.loads((store.folder / "sweeps" / "tiny.json").read_text(encoding="utf-8"))
    assert manifest["text"] == sweep.text
    assert [entry["uid"] for entry in manifest["entries"]] == [cell.uid for cell in sweep.cells]


def test_a_sweep_whose_trials_others_have_run_is_remembered_for_mlflow(sweep: Sweep, store: Store) -> None:
    run_sweep(sweep, store, RunOptions("local", track=False, progress=False))
    assert not is_behind(store.folder)
    part = replace(sweep, name="part", cells=sweep.cells[:3])
    assert run_sweep(part, store, RunOptions("local")).ran == 0
    assert is_behind(store.folder)
    assert [len(m.entries) for m in read_manifests(store.folder)] == [3, 6]


def test_failed_trials_run_again_only_when_asked(
    sweep: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = sweep.cells[-1]
    with monkeypatch.context() as patch:
        patch.setattr(pack_run, "TrainStep", lambda *_a: 1 / 0)
        summary = run_sweep(replace(sweep, cells=(cell,)), store, RunOptions("local", track=False))
    assert (summary.ran, summary.ok, summary.failed) == (1, 0, 1)
    assert "crashed: regression mxfp4 *.block=32@1 ZeroDivisionError: division by zero" in capsys.readouterr().out
    quiet = {"track": False, "progress": False}
    assert run_sweep(sweep, store, RunOptions("local", **quiet)).failed == 1
    assert store.done()[cell.uid] == FAILED
    retried = run_sweep(sweep, store, RunOptions("local", retry="failed", **quiet))
    assert (retried.before, retried.ran, retried.ok, retried.failed) == (5, 1, 6, 0)
    assert store.done()[cell.uid] == OK


def test_the_first_interrupt_finishes_the_pack_and_the_second_stops_now(
    sweep: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, ran = loop.run_pack, []

    def interrupted(trials: Sequence[Trial], *args: Any) -> list[Record]:
        ran.append(trials)
        os.kill(os.getpid(), signal.SIGINT)
        if len(ran) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(trials, *args)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(loop, "run_pack", interrupted)
    monkeypatch.setattr(width, "measured_width", lambda trials, *_a: 2)
    summary = run_sweep(sweep, store, RunOptions("local", track=False))
    assert (summary.stopped, summary.ran, summary.left) == (True, 2, 4)
    assert "stopping" in capsys.readouterr().out
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep, store, RunOptions("local", track=False, progress=False))
    assert signal.getsignal(signal.SIGINT) is handler
    monkeypatch.undo()
    assert run_sweep(sweep, store, RunOptions("local", track=False, progress=False)).before == 2


def test_user_errors_stop_the_sweep(sweep: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"unknown executor 'rey'; did you mean 'ray'\?"):
        run_sweep(sweep, store, RunOptions("rey"))
    with pytest.raises(UserError, match="workers must be at least 1, not 0"):
        run_sweep(sweep, store, RunOptions(workers=0))

    def missing(*_args: object) -> None:
        raise UserError("data file x is missing")

    monkeypatch.setattr(loop, "load", missing)
    with pytest.raises(UserError, match="data file x is missing"):
        run_sweep(sweep, store, RunOptions("local", track=False, progress=False))
    assert store.done() == {}
    with store.lock():  # and let go of the folder
        pass


def test_a_finished_sweep_needs_nothing_heavy(sweep: Sweep, store: Store) -> None:
    run_sweep(sweep, store, RunOptions("local", track=False, progress=False, compact=False))
    code = f"""
import sys
from pathlib import Path
from dse.run.backlog import make_backlog
from dse.run.driver import Driver
from dse.run.engine import run_sweep
from dse.run.executors import make_executor
from dse.run.summary import DriverResult
from dse.results.store import Store
from dse.sweep import load_sweep
print(run_sweep(load_sweep(Path({str(sweep.path)!r})), Store(Path({str(store.folder)!r}))).ran)
print([name for name in ("ray", "mlflow", "polars", "rich") if name in sys.modules])
"""
    env = os.environ | {"PYTHONPATH": str(Path(loop.__file__).parents[2])}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env, encoding="utf-8"
    )
    assert out.stdout.split("\n")[:2] == ["0", "[]"]


def test_a_driver_writes_nothing_before_it_runs(sweep: Sweep, store: Store) -> None:
    options = RunOptions("local", track=False, progress=False)
    executor = make_executor(options)
    driver = Driver(store, executor, options, make_backlog(sweep, store, options, executor))
    assert not store.folder.exists()
    assert driver.run() == DriverResult(ran=6)
    assert list(store.folder.glob("claims/*.claims")) == []
