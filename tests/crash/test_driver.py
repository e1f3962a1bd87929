"""Real processes, really killed: whatever happens to a driver, the same command completes the sweep.

A sweep through Ray is killed with SIGKILL; run again, with a trial that kills its workers, and stopped with SIGTERM;
run again. In the end every trial is in the shards exactly once, with the numbers of an undisturbed run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

import dse
from dse.results.record import FAILED, OK, STOPPED, Record
from dse.results.shards import read_shard, shard_paths
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.sweep import load_sweep
from dse.train.options import RunOptions
from tests.records import content

pytestmark = pytest.mark.crash

SWEEP = """
name: crash
tasks:
  - regression: {training: {steps: 20, batch: 32}}
recipes: [bf16, mxfp4]
seeds: 12
"""
Command = AbstractContextManager[tuple[subprocess.Popen[bytes], Path]]
PATIENCE = 180.0  # seconds for anything to happen; usual are 5 to 10, most of it Ray's start


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    path = tmp_path / "crash.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    return path


@pytest.mark.slow
def test_killed_and_interrupted_every_trial_is_there_once(sweep_file: Path, tmp_path: Path) -> None:
    sweep, results = load_sweep(sweep_file), tmp_path / "results"
    undisturbed = Store(tmp_path / "undisturbed")
    run_sweep(sweep, undisturbed, RunOptions("local", track=False, progress=False))
    expected = {record.uid: content(record, attempt=0) for record in undisturbed.records()}

    with driver(sweep_file, results) as (process, log):
        wait_for(results, 2, process, log)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    first = written(results)
    assert 2 <= len(first) < len(sweep.cells), "the kill came too late to prove anything"

    poison = next(cell.uid for cell in sweep.cells if cell.uid not in {r.uid for r in first})
    with driver(sweep_file, results, poison) as (process, log):  # the lock of the killed driver is free
        wait_for(results, len(first) + 1, process, log)
        os.killpg(process.pid, signal.SIGTERM)  # as schedulers do: to every process of the job, Ray's as well
        assert process.wait(PATIENCE) == 0, log.read_text(encoding="utf-8")
        assert f"signal={signal.SIGTERM}" in log.read_text(encoding="utf-8")
    second = written(results)
    assert len(first) + 1 <= len(second) < len(sweep.cells), "the interrupt came too late to prove anything"
    (lost,) = [record for record in second if record.status == FAILED]
    assert lost.uid == poison
    assert "the worker died 2 times" in str(lost.error)

    run_sweep(sweep, Store(results), RunOptions("local", retry="failed", track=False, progress=False, compact=False))
    records = written(results)
    assert Counter(r.uid for r in records if r != lost) == Counter(cell.uid for cell in sweep.cells)
    assert {r.uid: content(r, attempt=0) for r in records if r.status == OK} == expected
    assert {r.uid: content(r, attempt=0) for r in Store(results).records()} == expected


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["ray::Actor", "raylet", "gcs_server"])
def test_ray_itself_is_killed(sweep_file: Path, tmp_path: Path, victim: str) -> None:
    """A worker that is killed is replaced; without its head the driver ends, and the same command goes on."""
    sweep, results = load_sweep(sweep_file), tmp_path / "results"
    undisturbed = Store(tmp_path / "undisturbed")
    run_sweep(sweep, undisturbed, RunOptions("local", track=False, progress=False))
    expected = {record.uid: content(record, attempt=0) for record in undisturbed.records()}
    with driver(sweep_file, results) as (process, log):
        wait_for(results, 2, process, log)
        pids = [pid for pid in session(process.pid) if program(pid).startswith(victim)]
        assert pids, "no such process"
        os.kill(pids[0], signal.SIGKILL)
        process.wait(PATIENCE)
        print(victim, process.returncode, log.read_text(encoding="utf-8")[-1500:])
    run_sweep(sweep, Store(results), RunOptions("local", track=False, progress=False, compact=False))
    records = written(results)
    assert Counter(r.uid for r in records) == Counter(cell.uid for cell in sweep.cells)
    assert [r.error for r in records if r.status == FAILED] == []
    assert {r.uid: content(r, attempt=0) for r in records} == expected


def program(pid: int) -> str:
    """What a process calls itself, without its folder."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode().rpartition("/")[2]
    return ""


def written(results: Path) -> list[Record]:
    """Every record in the shards, duplicates and all."""
    shards = [read_shard(path) for path in shard_paths(results / "shards")]
    return [record for shard in shards if shard for record in shard.records]


def wait_for(results: Path, count: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while len(written(results)) < count:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < end, log.read_text(encoding="utf-8")
        time.sleep(0.02)


def driver(sweep_file: Path, results: Path, *poison: str) -> Command:
    """A driver with many small packs; see ``running``."""
    return running([str(Path(__file__).with_name("driver.py")), str(sweep_file), str(results), *poison], results)


@contextmanager
def running(arguments: Sequence[str], results: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Python in a session of its own; whatever it leaves behind, Ray's processes above all, is killed at the end."""
    log = results.with_suffix(".log")
    environment = os.environ | {"PYTHONPATH": str(Path(dse.__file__).parents[1])}
    environment.pop("RAY_ADDRESS", None)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=out, stderr=out, env=environment, start_new_session=True
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()
        for pid in session(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def session(leader: int) -> list[int]:
    """The processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(ValueError, OSError):
            if os.getsid(int(entry.name)) == leader:
                found.append(int(entry.name))
    return found


HALVED = SWEEP.replace("name: crash", "name: halved").replace("seeds: 12", "seeds: 2") + (
    "baseline: {recipe: bf16, training.lr: 1e-3}\n"
    "search: {method: grid, halving: {eta: 2, rungs: [0.25, 0.5]}}\n"
    "grid: {training.lr: [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]}\n"
)


@pytest.mark.slow
def test_halving_across_packs_of_a_killed_driver(tmp_path: Path) -> None:
    """Packs of three in two workers, killed and run again: who stops where is as in one pack that was undisturbed."""
    sweep_file, results = tmp_path / "halved.yaml", tmp_path / "results"
    sweep_file.write_text(HALVED, encoding="utf-8")
    sweep, undisturbed = load_sweep(sweep_file), Store(tmp_path / "undisturbed")
    run_sweep(sweep, undisturbed, RunOptions("local", track=False, progress=False))
    expected = {record.uid: content(record, attempt=0) for record in undisturbed.records()}
    assert {record.status for record in undisturbed.records()} == {OK, STOPPED}
    with driver(sweep_file, results) as (process, log):
        wait_for(results, 12, process, log)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    first = written(results)
    assert len({record.uid for record in first}) < len(sweep.cells), "the kill came too late to prove anything"
    with driver(sweep_file, results) as (process, log):
        assert process.wait(PATIENCE) == 0, log.read_text(encoding="utf-8")
    assert {record.uid: content(record, attempt=0) for record in Store(results).records()} == expected
    legs = Counter((record.uid, str(record.stopped)) for record in written(results))
    assert max(legs.values()) == 1, "no trial came to a rung twice"
