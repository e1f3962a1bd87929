"""Two drivers in one results folder: what each tells of the other's work, and MLflow of both."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from signal import SIGINT
from typing import Any

import pytest

from dse.results.record import Record
from dse.results.shards import read_shard, shard_paths
from dse.results.store import Store
from dse.run import engine, progress
from dse.run.driver import Driver
from dse.run.engine import run_sweep
from dse.run.executors.local import LocalExecutor
from dse.run.interrupt import Interrupt
from dse.run.tally import Tally
from dse.run.tracking.mlflow_runs import catch_up, is_behind, mark
from dse.sweep import Sweep
from dse.train import loop, width
from dse.train.options import RunOptions
from tests.run.oracle import fake_pack

Make = Callable[..., Record]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Something that happens while the first pack runs, of two trials each."""
    jobs: list[Callable[[], Any]] = []

    class Narrow(LocalExecutor):
        max_width = 2

    monkeypatch.setattr(engine, "make_executor", lambda *_: Narrow(RunOptions()))

    def run_pack(*args: Any) -> list[Record]:
        if jobs:
            jobs.pop()()
        return fake_pack(*args)

    monkeypatch.setattr(loop, "run_pack", run_pack)
    monkeypatch.setattr(width, "measured_width", lambda trials, *_: len(trials))
    return jobs.append


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dse.run.queue.shared_queue._POLL", 0.0)


def test_what_others_have_done_outlives_heartbeats(sweep: Sweep, make_record: Make) -> None:
    tally = Tally(sweep.cells, [], workers=1)
    tally.add(make_record(sweep.cells[0].uid))
    tally.add(make_record(sweep.cells[1].uid), own=False)
    for _ in range(3):
        tally.update(1, 0.5)
    assert (tally.ran, tally.elsewhere, tally.finished, tally.left) == (1, 1, 2, 4)
    tally.add(make_record(sweep.cells[1].uid))  # it ran twice, somehow
    assert (tally.ran, tally.elsewhere, tally.left) == (1, 1, 4)
    assert "other drivers 1" in progress.details(tally)[1]


def test_the_summary_tells_what_the_other_driver_has_done(
    sweep: Sweep, store: Store, meanwhile: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    rest = [cell.uid for cell in sweep.cells[3:]]  # not of the first pack

    def other() -> None:
        own = run_sweep(
            sweep, Store(store.folder), RunOptions("local", only=rest, track=False, progress=False, compact=False)
        )
        assert (own.total, own.before, own.ran, own.elsewhere, own.left) == (3, 0, 3, 0, 0)

    meanwhile(other)
    summary = run_sweep(sweep, store, RunOptions("local", track=False, compact=False))
    assert (summary.total, summary.before, summary.ran, summary.elsewhere, summary.left) == (6, 0, 3, 3, 0)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("6/6 ")
    assert "other drivers 3" in last


def test_what_another_driver_stores_before_the_run_begins_is_not_run_again(
    sweep: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look at the results and the first claim, however long that takes on a busy machine."""
    first = [cell.uid for cell in sweep.cells[:3]]
    quiet = RunOptions("local", track=False, progress=False, compact=False)

    def late(store: Store, *arguments: Any) -> Driver:
        with monkeypatch.context() as patch:
            patch.setattr(engine, "Driver", Driver)
            assert run_sweep(sweep, Store(store.folder), replace(quiet, only=first)).ran == 3
        return Driver(store, *arguments)

    monkeypatch.setattr(engine, "Driver", late)
    summary = run_sweep(sweep, store, quiet)
    assert (summary.ran, summary.elsewhere, summary.left) == (3, 3, 0)
    shards = [read_shard(path) for path in shard_paths(store.shards)]
    stored = [record.uid for shard in shards if shard for record in shard.records]
    assert sorted(stored) == sorted(cell.uid for cell in sweep.cells)


def test_a_stopped_driver_counts_what_others_have_done(
    sweep: Sweep, store: Store, meanwhile: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Interrupt()

    def other() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("dse.run.driver.graceful", _never)
            own = Store(store.folder)
            run_sweep(
                sweep, own, RunOptions("local", only=[sweep.cells[4].uid], track=False, progress=False, compact=False)
            )
        stop.number = SIGINT

    @contextmanager
    def asked_to_stop() -> Any:
        yield stop

    @contextmanager
    def _never() -> Any:
        yield Interrupt()

    monkeypatch.setattr("dse.run.driver.graceful", asked_to_stop)
    meanwhile(other)
    summary = run_sweep(sweep, store, RunOptions("local", track=False, progress=False, compact=False))
    assert summary.stopped
    assert (summary.before, summary.ran, summary.elsewhere, summary.left) == (0, 2, 1, 3)
    assert summary.before + summary.ran + summary.elsewhere + summary.left == summary.total


def _experiments(folder: Path) -> dict[str, int]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    return {e.name: len(client.search_runs([e.experiment_id])) for e in client.search_experiments() if e.name[0] != "D"}


def test_a_sweep_that_ends_while_another_one_writes_to_mlflow_gets_there(
    sweep: Sweep, store: Store, meanwhile: Callable[..., None]
) -> None:
    short = replace(sweep, name="short", cells=sweep.cells[:3], path=sweep.path.with_name("short.yaml"))
    part = replace(sweep, cells=sweep.cells[2:])

    def other() -> None:
        engine.run_sweep(
            short, Store(store.folder), RunOptions("local", only=[short.cells[0].uid], progress=False, compact=False)
        )
        assert is_behind(store.folder)

    meanwhile(other)
    run_sweep(part, store, RunOptions("local", progress=False, compact=False))
    assert not is_behind(store.folder)
    assert _experiments(store.folder) == {"tiny": 4, "short": 2}
    run_sweep(sweep, store, RunOptions("local", progress=False, compact=False))
    mark(store.folder, "short")  # as a driver that was killed leaves it
    assert catch_up(store) == 1
    assert _experiments(store.folder) == {"tiny": 6, "short": 3}
