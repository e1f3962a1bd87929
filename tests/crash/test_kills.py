"""Real processes and real kill -9 at random moments: nothing is lost, nothing runs twice, and numbers do not change.

Drivers are forked from a server that has imported everything, so that a life and its death cost milliseconds.
`make test` spends about half a minute here, `make test-crash` several minutes.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from dse.results.claims import running_drivers
from dse.results.record import Record
from dse.results.shards import read_shard, shard_paths
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.sweep import Sweep, load_sweep
from dse.train.options import RunOptions
from tests.crash import driver
from tests.records import content

pytestmark = pytest.mark.crash

SWEEP = """
name: kills
tasks:
  - regression: {training: {steps: 12, batch: 32}}
recipes: [bf16, mxfp4, nvfp4]
seeds: 8
"""
PATIENCE = 120.0  # seconds for anything to happen
NEEDED = ["tests.crash.driver", "dse.train.loop", "dse.run.executors.local", "polars"]
NEEDED += ["torch.fx.experimental.symbolic_shapes"]  # torch imports it in the first step, which takes a second
SERVER = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    SERVER.set_forkserver_preload(NEEDED)
    path = tmp_path_factory.mktemp("kills") / "kills.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    return load_sweep(path)


@pytest.fixture(scope="module")
def expected(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The numbers of an undisturbed run."""
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    run_sweep(sweep, store, RunOptions("local", track=False, progress=False, compact=False))
    return {record.uid: content(record, attempt=0) for record in store.records()}


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 9))])
def test_killed_drivers_lose_nothing_and_repeat_nothing(
    sweep: Sweep, expected: dict[str, str], tmp_path: Path, seed: int
) -> None:
    """Up to three drivers at a time on one folder; each is killed at a random moment. The last ones may live."""
    chance, log, kills, most = random.Random(seed), tmp_path / "log", 0, 8 if seed == 1 else 100
    running = list[tuple[BaseProcess, float]]()
    end, longest = time.monotonic() + PATIENCE, 0.6
    while len(written(tmp_path)) < len(sweep.cells):
        assert time.monotonic() < end, f"seed {seed}, {kills} kills:\n{log.read_text(encoding='utf-8')}"
        while len(running) < chance.randint(1, 3):
            running.append((start(driver.drive, sweep, tmp_path, log), time.monotonic() + chance.uniform(0, longest)))
            longest *= 1.06  # a life must some day be long enough for a pack
        time.sleep(0.005)
        for process, death in list(running):
            if not process.is_alive() or (time.monotonic() > death and kills < most):
                kills += process.is_alive()
                process.kill()
                process.join()
                running.remove((process, death))
    for process, _ in running:
        process.join(PATIENCE)
    print(f"seed {seed}: {kills} drivers killed, {len(list(shard_paths(tmp_path / 'shards')))} shards")
    assert kills >= 3
    summary = run_sweep(sweep, Store(tmp_path), RunOptions("local", track=False, progress=False, compact=False))
    assert (summary.ran, summary.ok) == (0, len(sweep.cells))
    records = written(tmp_path)
    assert Counter(record.uid for record in records) == Counter(expected.keys()), f"seed {seed}"
    assert {record.uid: content(record, attempt=0) for record in records} == expected, f"seed {seed}"
    assert running_drivers(tmp_path) == []


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_what_was_stored_survives_kills_in_writing_and_compaction(tmp_path: Path, seed: int) -> None:
    chance, promised, kills = random.Random(seed), set[str](), 0
    end = time.monotonic() + (3 if seed == 1 else 20)
    while time.monotonic() < end:
        mine, theirs = SERVER.Pipe(duplex=False)
        process = start(driver.hammer, tmp_path, 1000 * seed + kills, theirs)
        theirs.close()
        time.sleep(chance.uniform(0.02, 0.5))
        process.kill()
        process.join()
        kills += 1
        with mine:
            while mine.poll():
                try:
                    promised |= set(mine.recv())
                except EOFError:
                    break
    store = Store(tmp_path)
    found = Counter(record.uid for record in store.records())
    print(f"seed {seed}: {kills} kills, {len(promised)} records promised, {len(found)} found")
    assert promised
    assert promised <= found.keys(), f"seed {seed}"
    assert set(found.values()) == {1}
    store.compact()
    assert {record.uid for record in store.records()} == found.keys()
    assert store.damage.places == ()


def test_a_full_disk_ends_the_run_in_one_line_and_costs_a_pack(
    sweep: Sweep, expected: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    process = start(driver.drive, sweep, tmp_path / "results", log, 20_000)
    process.join(PATIENCE)
    assert process.exitcode == 1
    assert "dse.errors.UserError: a result could not be written to " in log.read_text(encoding="utf-8")
    first = written(tmp_path / "results")
    assert 3 <= len(first) < len(sweep.cells)
    run_sweep(sweep, Store(tmp_path / "results"), RunOptions("local", track=False, progress=False, compact=False))
    records = written(tmp_path / "results")
    assert Counter(record.uid for record in records) == Counter(expected.keys())
    assert {record.uid: content(record, attempt=0) for record in records} == expected


def test_ctrl_c_once_finishes_the_pack_and_twice_stops_now(
    sweep: Sweep, expected: dict[str, str], tmp_path: Path
) -> None:
    folder, log = tmp_path / "results", tmp_path / "log"
    for twice in (False, True):
        before = len(written(folder))
        process = start(driver.drive, sweep, folder, log)
        wait_for(lambda: len(written(folder)) > before, process, log)  # noqa: B023
        os.kill(process.pid or 0, signal.SIGINT)
        if twice:
            os.kill(process.pid or 0, signal.SIGTERM)
        process.join(PATIENCE)
        assert process.exitcode == int(twice), log.read_text(encoding="utf-8")
        assert ("dse.run.interrupt.Stopped: " if twice else "signal=2") in log.read_text(encoding="utf-8")
    assert len(written(folder)) < len(sweep.cells)
    assert run_sweep(sweep, Store(folder), RunOptions("local", track=False, progress=False, compact=False)).left == 0
    records = written(folder)
    assert Counter(record.uid for record in records) == Counter(expected.keys())
    assert {record.uid: content(record, attempt=0) for record in records} == expected


def written(results: Path) -> list[Record]:
    """Every record in the shards, duplicates and all."""
    shards = [read_shard(path) for path in shard_paths(results / "shards")]
    return [record for shard in shards if shard for record in shard.records]


def start(target: Any, *args: Any) -> BaseProcess:
    process = SERVER.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def wait_for(what: Any, process: BaseProcess, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert process.is_alive(), log.read_text(encoding="utf-8")
        assert time.monotonic() < end, log.read_text(encoding="utf-8")
        time.sleep(0.005)
