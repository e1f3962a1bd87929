"""Failures are results, and say what kind they are: crashed, out of memory, timed out, or their worker died."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dse.errors import UserError
from dse.pack.step import TrainStep
from dse.results.outcome import outcome, reason
from dse.results.record import DIVERGED, FAILED, Record
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.run.executors.worker import Worker
from dse.sweep import Sweep
from dse.train import pack_run
from dse.train.options import RunOptions

Make = Callable[..., Record]
TRACE = "Traceback (most recent call last):\n  File ...\n"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TRACE + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.", "out of memory"),
        (TRACE + "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", "out of memory"),
        (TRACE + "MemoryError", "out of memory"),
        ("the worker died 2 times while it ran this trial:\nkilled by signal 9", "worker died"),
        ("the worker died 2 times while it ran this trial:\nthe node running low on memory", "out of memory"),
        ("timed out: 3.2 s of training, 3 s are allowed", "timed out"),
        (TRACE + "ValueError: shapes (out of memory would be worse) differ", "out of memory"),
        (TRACE + "ZeroDivisionError: division by zero", "crashed"),
        (None, "crashed"),
    ],
)
def test_kinds_of_failure(make_record: Make, error: str | None, expected: str) -> None:
    assert outcome(make_record(status=FAILED, error=error)) == expected


def test_reasons(make_record: Make) -> None:
    assert (outcome(make_record()), reason(make_record())) == ("ok", "")
    diverged = make_record(status=DIVERGED, diverged_at=3, diverged_where="parameter w is not finite")
    assert (outcome(diverged), reason(diverged)) == ("diverged", "at step 3: parameter w is not finite")
    assert reason(make_record(status=FAILED, error=TRACE + "KeyError: 'x'\n")) == "KeyError: 'x'"
    assert reason(make_record(status=FAILED)) == "no reason known"


def test_out_of_memory_halves_the_pack_until_it_fits(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    widths, poison = list[int](), sweep.cells[3].trial

    def greedy(trials: Any, *args: Any) -> TrainStep:
        widths.append(len(trials))
        if len(trials) > 3 or poison in trials:
            raise MemoryError("DefaultCPUAllocator: can't allocate memory")
        return TrainStep(trials, *args)

    monkeypatch.setattr(pack_run, "TrainStep", greedy)
    cells = sweep.cells
    records = Worker(RunOptions()).run([c.trial for c in cells], [c.config for c in cells], len(cells))
    assert [record.uid for record in records] == [cell.uid for cell in cells]
    assert [outcome(record) for record in records] == ["ok", "ok", "ok", "out of memory", "ok", "ok"]
    assert widths == [6, 3, 3, 1, 2]


def test_a_trial_that_takes_too_long_is_found_by_halves(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, now = sweep.cells[4].trial, 100.0
    real = TrainStep.step

    def step(self: TrainStep) -> None:
        nonlocal now
        now += 1.3 if slow in self.pack.trials else 0.1
        real(self)

    monkeypatch.setattr(TrainStep, "step", step)
    cells = sweep.cells[2:]
    worker = Worker(RunOptions(timeout=0.6), clock=lambda: now)
    records = worker.run([c.trial for c in cells], [c.config for c in cells], len(cells))
    assert [record.uid for record in records] == [cell.uid for cell in cells]
    assert [outcome(record) for record in records] == ["ok", "ok", "timed out", "ok"]
    assert reason(records[2]) == "timed out: 1.3 s of training, 0.6 s are allowed"
    assert records[2].seconds == 1.3
    assert records[2].baseline_uid == cells[2].baseline_uid


def test_a_timeout_is_a_result_and_runs_again_when_asked(sweep: Sweep, tmp_path: Path) -> None:
    store, quiet = Store(tmp_path / "results"), {"track": False, "progress": False}
    assert run_sweep(sweep, store, RunOptions("local", timeout=1e-9, **quiet)).failed == 6
    assert run_sweep(sweep, store, RunOptions("local", **quiet)).ran == 0
    assert run_sweep(sweep, store, RunOptions("local", retry="failed", **quiet)).ok == 6
    with pytest.raises(UserError, match="timeout must be more than 0 seconds, not 0"):
        run_sweep(sweep, store, RunOptions("local", timeout=0, **quiet))


def test_only_some_trials_and_all_of_them_again(sweep: Sweep, tmp_path: Path) -> None:
    store, quiet = Store(tmp_path / "results"), {"track": False, "progress": False}
    uid = sweep.cells[5].uid
    summary = run_sweep(sweep, store, RunOptions("local", only=[uid[:8], "bf16@1"], **quiet))
    assert (summary.total, summary.ran) == (2, 2)
    assert set(store.done()) == {uid, sweep.cells[1].uid}
    started = [record.started for record in store.records([uid])]
    time.sleep(1.1)
    assert run_sweep(sweep, store, RunOptions("local", only=[uid], retry="all", **quiet)).ran == 1
    assert [record.started for record in store.records([uid])] > started
    with pytest.raises(UserError, match=r"^no trial 'mxfp4@7'"):
        run_sweep(sweep, store, RunOptions("local", only=["mxfp4@7"], **quiet))
    with pytest.raises(UserError, match="unknown retry 'some'; valid: none, failed, all"):
        run_sweep(sweep, store, RunOptions("local", retry="some", **quiet))
