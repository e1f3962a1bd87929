"""A sweep under Ray Tune, killed with SIGKILL: the same command completes it, and nothing is run or decided twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from dse.results.record import OK, STOPPED
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.sweep import load_sweep
from dse.train.options import RunOptions
from tests.crash.test_driver import PATIENCE, program, running, session, wait_for, written

pytestmark = [pytest.mark.crash, pytest.mark.slow]

PLAIN = """
name: tuned
tasks: [{regression: {training: {steps: 40, batch: 32}}}]
recipes: [mxfp4, nvfp4]
baseline: {recipe: bf16, training.lr: 3e-3}
seeds: 2
grid: {training.lr: [1e-2, 3e-3, 1e-3, 3e-4, 1e-4]}
"""
HALVED = PLAIN + "search: {method: grid, halving: {eta: 2, rungs: [0.25, 0.5]}}\n"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_killed_driver_goes_on(tmp_path: Path, seed: int) -> None:
    file, plain, results = tmp_path / "tuned.yaml", tmp_path / "plain.yaml", tmp_path / "results"
    file.write_text(HALVED, encoding="utf-8")
    plain.write_text(PLAIN, encoding="utf-8")
    undisturbed = Store(tmp_path / "undisturbed")
    run_sweep(load_sweep(plain), undisturbed, RunOptions("local", track=False, progress=False))
    expected = {record.uid: record for record in undisturbed.records()}

    command = ["-m", "dse", "run", str(file), "--results", str(results), "--executor", "tune", "--workers", "2"]
    command += ["--no-track", "--device", "cpu"]
    with running(command, results) as (process, log):
        wait_for(results, 3, process, log)
        time.sleep(random.Random(seed).uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    first = written(results)
    assert 3 <= len(first) < len(expected), "the kill came too late to prove anything"
    with running(command, results) as (process, log):
        assert process.wait(PATIENCE) == 0, log.read_text(encoding="utf-8")
        assert f"all {len(expected)}" in log.read_text(encoding="utf-8")

    records = written(results)
    if not records:  # compacted at the end
        records = Store(results).records()
    assert Counter(record.uid for record in records) == Counter(expected.keys()), f"seed {seed}"
    by = {record.uid: record for record in records}
    assert all(by[record.uid].line() == record.line() for record in first), "what was recorded stays"
    assert {record.status for record in records} == {OK, STOPPED}
    for record in records:
        whole = expected[record.uid]
        if record.status == OK:
            assert (record.metric, record.curve) == (whole.metric, whole.curve), f"seed {seed}"
        else:
            assert record.curve == whole.curve[: record.stopped["step"]], f"seed {seed}"
            assert record.stopped["by"] == "asha"
    assert not list((results / "checkpoints").iterdir())


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """Its configuration is tried again, seed by seed, and goes on from its checkpoints."""
    file, results = tmp_path / "tuned.yaml", tmp_path / "results"
    file.write_text(HALVED.replace("steps: 40", "steps: 400"), encoding="utf-8")
    command = ["-m", "dse", "run", str(file), "--results", str(results), "--executor", "tune", "--workers", "1"]
    with running([*command, "--no-track", "--device", "cpu"], results) as (process, log):
        wait_for(results, 2, process, log)
        pids = [pid for pid in session(process.pid) if program(pid).startswith(("ray::Resource", "ray::Config"))]
        assert pids, [program(pid) for pid in session(process.pid)]
        os.kill(pids[0], signal.SIGKILL)
        assert process.wait(PATIENCE) == 0, log.read_text(encoding="utf-8")
    records = Store(results).records()
    assert {record.status for record in records} == {OK, STOPPED}
    assert len(records) == len(load_sweep(file).cells)
