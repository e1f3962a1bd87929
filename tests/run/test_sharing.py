"""Drivers that share a folder: each trial once, whoever comes, goes, or dies with what it has claimed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import dse
from dse.results.claims import Claims, running_drivers
from dse.results.record import FAILED, Record
from dse.results.shards import read_shard, shard_paths
from dse.results.store import Store
from dse.results.watch import ResultWatcher
from dse.run.engine import run_sweep
from dse.run.queue.other_drivers import OtherDrivers, stamps
from dse.run.queue.pack_queue import PackQueue
from dse.run.queue.shared_queue import SharedQueue
from dse.sweep import Cell, Sweep
from dse.train.options import RunOptions

Make = Callable[..., Record]


class Driver:
    """A driver with everything but an executor."""

    def __init__(self, folder: Path, cells: Sequence[Cell], make: Make, limit: int = 2) -> None:
        self.store, self.make, self.heard = Store(folder), make, list[str]()
        watcher, done = ResultWatcher(self.store.shards, self.store.parquet), self.store.done()
        before = stamps(self.store.on_each_device())
        pending = [cell for cell in cells if done.get(cell.uid, FAILED) == FAILED]
        self.claims, self.ran = Claims(folder), list[str]()
        others = OtherDrivers(self.claims, watcher, before, lambda: self.store.own)
        self.queue = SharedQueue(PackQueue(pending, limit), others, pending, self._hear)

    def step(self, chance: random.Random) -> None:
        """Takes one load and runs some of it."""
        if load := self.queue.take():
            count = chance.randint(1, len(load.cells))
            for cell in load.cells[:count]:
                self.store.append(self.make(cell.uid, started=f"now {chance.random()}"))
                self.ran.append(cell.uid)
            self.queue.done(load, count)

    def leave(self) -> None:
        self.store.close()
        self.claims.close()

    def _hear(self, found: Sequence[tuple[Cell, Record]]) -> None:
        self.heard += [record.uid for _, record in found]


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dse.run.queue.shared_queue._POLL", 0.0)


@pytest.mark.parametrize("seed", range(10))
def test_each_cell_once_whoever_comes_and_goes(sweep: Sweep, tmp_path: Path, make_record: Make, seed: int) -> None:
    chance = random.Random(seed)
    drivers = [Driver(tmp_path, sweep.cells, make_record) for _ in range(3)]
    ran = list[str]()
    while drivers:
        driver = chance.choice(drivers)
        if driver.queue.exhausted() or (len(drivers) > 1 and chance.random() < 0.1):
            driver.leave()
            if chance.random() < 0.5:
                driver.store.compact()
            drivers.remove(driver)
            ran += driver.ran
            if chance.random() < 0.3:
                drivers.append(Driver(tmp_path, sweep.cells, make_record))
        else:
            driver.step(chance)
            heard = set(driver.heard)
            assert len(heard) == len(driver.heard)
            assert not heard & set(driver.ran)
    assert Counter(ran) == Counter(cell.uid for cell in sweep.cells), f"seed {seed}"
    assert list((tmp_path / "claims").glob("*.claims")) == []


def test_what_a_driver_holds_is_waited_for_and_taken_over(sweep: Sweep, tmp_path: Path, make_record: Make) -> None:
    first, second = (Driver(tmp_path, sweep.cells, make_record, limit=6) for _ in range(2))
    load = first.queue.take()
    assert load is not None
    assert len(load.cells) == 6
    assert second.queue.take() is None
    assert not second.queue.exhausted()
    assert set(second.queue.elsewhere) == {cell.uid for cell in sweep.cells}
    assert f"process {os.getpid()} on " in next(iter(second.queue.elsewhere.values()))
    assert sorted(len(uids) for _, uids in running_drivers(tmp_path)) == [0, 6]
    first.store.append(make_record(load.cells[0].uid))
    first.queue.done(load, 1)  # and gives five back
    second.queue.take()  # looks
    again = second.queue.take()
    assert again is not None
    assert {cell.uid for cell in again.cells} == {cell.uid for cell in sweep.cells[1:]}
    assert second.heard == [sweep.cells[0].uid]
    assert first.queue.take() is None
    second.leave()  # without having run any of it
    first.queue.take()
    third = first.queue.take()
    assert third is not None
    assert len(third.cells) + len(first.queue) == 5
    first.leave()


def test_a_failed_trial_is_retried_by_one_driver_alone(sweep: Sweep, tmp_path: Path, make_record: Make) -> None:
    store = Store(tmp_path)
    store.append(*(make_record(cell.uid, FAILED) for cell in sweep.cells))
    store.close()
    first, second = (Driver(tmp_path, sweep.cells, make_record, limit=6) for _ in range(2))
    load = first.queue.take()
    assert load is not None
    first.store.append(*(make_record(cell.uid, FAILED, started="later") for cell in load.cells))
    first.queue.done(load, 6)
    first.leave()
    first.store.compact()
    assert second.queue.take() is None
    assert second.queue.exhausted()
    assert len(second.heard) == 6
    second.leave()


def test_the_claims_of_a_killed_process_vanish(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from dse.results.claims import Claims
claims = Claims(Path({str(tmp_path)!r}))
with claims.lock():
    claims.claim(["a", "b", "c"])
    claims.release(["b"])
print("ready", flush=True)
signal.pause()
"""
    env = os.environ | {"PYTHONPATH": str(Path(dse.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    claims = Claims(tmp_path)
    try:
        with claims.lock():
            assert set(claims.claimed_by_others()) == {"a", "c"}
        process.send_signal(signal.SIGKILL)
        process.wait()
        with claims.lock():
            assert claims.claimed_by_others() == {}
    finally:
        process.kill()
        process.stdout.close()
        claims.close()
    assert running_drivers(tmp_path) == []


def test_two_threads_of_one_process_are_two_drivers(sweep: Sweep, tmp_path: Path) -> None:
    """Really trained, at the same time."""
    many = replace(sweep, name="many")
    summaries = []

    def drive() -> None:
        summaries.append(
            run_sweep(many, Store(tmp_path), RunOptions("local", track=False, progress=False, compact=False))
        )

    threads = [threading.Thread(target=drive) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sum(summary.ran for summary in summaries) == 6
    assert {(summary.total, summary.ok, summary.left) for summary in summaries} == {(6, 6, 0)}
    lines = [r.uid for path in shard_paths(tmp_path / "shards") if (s := read_shard(path)) for r in s.records]
    assert Counter(lines) == Counter(cell.uid for cell in sweep.cells)
