"""Halving over a whole sweep: in however many packs it runs, whoever runs them, the same trials go on with the same
numbers."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from dse.commands.status import status
from dse.results.by_device import kept
from dse.results.record import DIVERGED, FAILED, OK, STOPPED, Record
from dse.results.shards import read_shard, shard_paths
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.run.executors.devices import MAX_WIDTH
from dse.run.queue.final_results import halving_rule
from dse.run.queue.other_drivers import stamp
from dse.run.queue.rungs import Rungs
from dse.sweep import Sweep, load_sweep
from dse.train import width
from dse.train.halving import HalvingRule, RungTarget
from dse.train.loop import run_trial
from dse.train.options import RunOptions
from tests.records import content

TEXT = """
name: rungs
tasks: [{regression: {training: {steps: 12, batch: 16}}}]
recipes: [mxfp4, nvfp4, tetrajet]
baseline: {recipe: bf16, training.lr: 1e-3}
seeds: 2
search: {method: grid, halving: {eta: 2, rungs: [0.25, 0.5]}}
grid: {training.lr: [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]}
"""


@pytest.fixture(autouse=True)
def _packs(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(width, "measured_width", lambda trials, *_: len(trials))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    path = tmp_path / "rungs.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return load_sweep(path)


def results(store: Store) -> dict[str, str]:
    return {record.uid: content(record) for record in store.records()}


def ended(store: Store) -> dict[str, float | None]:
    """uid -> final metric of the trials that came to the end."""
    return {record.uid: record.metric for record in store.records() if record.status == OK}


def run(sweep: Sweep, folder: Path, limit: int = 0) -> Store:
    store, before = Store(folder), MAX_WIDTH["cpu"]
    try:
        MAX_WIDTH["cpu"] = limit or before
        summary = run_sweep(sweep, store, RunOptions("local", track=False, progress=False, compact=False))
        assert summary.left == 0
    finally:
        MAX_WIDTH["cpu"] = before
    return store


def lines(folder: Path) -> list[Record]:
    return [r for path in shard_paths(folder / "shards") if (s := read_shard(path)) for r in s.records]


@pytest.mark.parametrize("limit", [5, pytest.param(31, marks=pytest.mark.slow)])
def test_any_number_of_packs_gives_the_same_results(sweep: Sweep, tmp_path: Path, limit: int) -> None:
    """32 trials, in one pack that judges itself and in packs that wait for each other."""
    expected = results(run(sweep, tmp_path / "one"))
    assert len(lines(tmp_path / "one")) == len(expected)
    status = Counter(Record.parse(line).status for line in expected.values())
    assert status == {OK: 2 * 4 + 2, STOPPED: 2 * (7 + 4)}  # 15 configurations, then 8, then 4, beside the baseline
    store = run(sweep, tmp_path / "several", limit)
    assert results(store) == expected
    assert not list((store.folder / "checkpoints").iterdir())
    assert run_sweep(sweep, store, RunOptions("local", track=False, progress=False)).ran == 0
    for record in list(map(Record.parse, expected.values()))[::3]:
        cell = next(cell for cell in sweep.cells if cell.uid == record.uid)
        alone = run_trial(cell.trial)
        assert record.curve == alone.curve[: len(record.curve)]
        assert (record.metric == alone.metric) == (record.status == OK)


def test_survivors_are_packed_together_and_nothing_is_trained_twice(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(sweep, tmp_path, limit=8)
    written = lines(tmp_path)
    at = Counter(r.stopped["rung"] if r.status == STOPPED else 3 for r in written)
    assert at == {1: 32, 2: 18, 3: 10}  # 15, 8 and 4 configurations and a baseline, with two seeds
    assert max(Counter((r.uid, str(r.stopped)) for r in written).values()) == 1
    part = Store(tmp_path / "part")  # what there was when all had come to the first rung
    part.append(*(r for r in written if r.stopped.get("rung") == 1))
    status(sweep.path, part.folder)
    assert "rungs: 14 of 32 trials done" in capsys.readouterr().out
    last = [r for r in written if r.status == OK]
    assert Counter(r.pack["width"] for r in last) == {5: 10}  # from five packs, through three, to two of like size
    assert {r.pack["resumed_at"] for r in last} == {6}


def drive(sweep: Sweep, folder: Path) -> None:
    run(sweep, folder, limit=4)


def test_in_the_same_second_the_further_one_is_the_newer(sweep: Sweep) -> None:
    near, far = (mark("u", dict.fromkeys(steps, 1.0), STOPPED) for steps in ((3,), (3, 6)))
    assert near.started == far.started
    assert kept([near, far]) == kept([far, near]) == [far]
    assert stamp(near) != stamp(far)


@pytest.mark.parametrize("seed", [5, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 16))])
def test_drivers_that_are_killed_and_drivers_that_share(sweep: Sweep, tmp_path: Path, seed: int) -> None:
    expected = results(run(sweep, tmp_path / "one"))
    server, folder = multiprocessing.get_context("fork"), tmp_path / "many"
    chance, kills, end = random.Random(seed), 0, time.monotonic() + 120
    while True:
        running = [server.Process(target=drive, args=(sweep, folder)) for _ in range(2)]
        for process in running:
            process.start()
        if kills >= 6 or len(lines(folder)) > 50:
            break
        time.sleep(chance.uniform(0.2, 1.0))
        for process in running:
            kills += process.is_alive()
            process.kill()
            process.join()
        assert time.monotonic() < end
    for process in running:
        process.join(60)
        assert process.exitcode == 0, f"seed {seed}"
    print(f"seed {seed}: {kills} kills ({signal.SIGKILL})")
    assert results(Store(folder)) == expected, f"seed {seed}"
    assert max(Counter((r.uid, str(r.stopped)) for r in lines(folder)).values()) == 1, f"seed {seed}"


def test_another_file_compares_anew(sweep: Sweep, tmp_path: Path) -> None:
    """Who goes on is a function of the file: with more configurations, or a milder rule, more may go on."""
    store = run(sweep, tmp_path / "results", limit=8)
    mild = tmp_path / "mild.yaml"
    mild.write_text(TEXT.replace("eta: 2", "eta: 3").replace("0.25, 0.5", "0.5"), encoding="utf-8")
    first = ended(store)
    fresh = ended(run(load_sweep(mild), tmp_path / "fresh"))
    assert ended(run(load_sweep(mild), store.folder, limit=8)) == first | fresh
    assert len(ended(store)) > len(first)
    assert (
        run_sweep(sweep, store, RunOptions("local", track=False, progress=False)).ran == 0
    )  # it knows all that it asks for


def mark(cell_uid: str, evals: dict[int, float | None], status: str = OK, **fields: object) -> Record:
    stopped = {"rung": len(evals), "step": max(evals, default=0), "metric": 0.0} if status == STOPPED else {}
    points = [[step, value] for step, value in evals.items()]
    return Record(cell_uid, "b", status, "t", "r", "c", 0, {}, evals=points, stopped=stopped | fields)


def test_judgement(sweep: Sweep) -> None:
    own = HalvingRule(2, (0.25, 0.5), frozenset())
    cells = [cell for cell in sweep.cells if cell.trial.recipe.name == "mxfp4" and cell.trial.seed == 0][:4]
    a, b, c, d = (cell.uid for cell in cells)
    rungs = Rungs(own, cells)
    assert rungs.targets == dict.fromkeys((a, b, c, d), RungTarget(1, 4))
    rungs.tell([mark(a, {3: 1.0}, STOPPED), mark(b, {3: 2.0}, STOPPED), mark(c, {3: 3.0}, STOPPED)])
    assert rungs.new_targets() == dict.fromkeys((a, b, c, d), RungTarget(1, 4))
    assert rungs.targets == {d: RungTarget(1, 4)}  # the others wait for it, and it is not judged alone
    assert rungs.unfinished == {a, b, c, d}
    rungs.tell([mark(d, {}, DIVERGED)])
    assert rungs.targets == rungs.new_targets() == dict.fromkeys((a, b), RungTarget(2, 2))
    assert rungs.new_targets() == {}
    assert rungs.unfinished == {a, b}
    assert rungs.target(c) is None
    rungs.tell([mark(a, {3: 1.0}, STOPPED), mark(b, {3: 2.0, 6: 0.5}, STOPPED)])
    assert rungs.targets == {a: RungTarget(2, 2)}
    rungs.tell([mark(a, {3: 1.0, 6: 0.6}, STOPPED)])
    assert (rungs.targets, rungs.unfinished) == ({b: RungTarget()}, {b})
    rungs.tell([mark(b, {3: 2.0, 6: 0.5, 12: 0.1})])
    assert rungs.unfinished == frozenset()
    assert Rungs(own, cells, [mark(d, {}, FAILED)]).targets == dict.fromkeys((a, b, c), RungTarget(1))
    # one that ran without halving is not compared; one that stopped under other rungs has not been at ours
    rungs = Rungs(own, cells[:3], [mark(a, {12: 1.0}), mark(b, {3: 1.0, 6: 1.0, 12: 1.0}), mark(c, {2: 9.0}, STOPPED)])
    assert rungs.targets == {c: RungTarget(1)}
    rungs.tell([mark(c, {3: 0.5}, STOPPED)])
    assert rungs.targets == {c: RungTarget(2, 1)}  # alone: there is nobody to wait for
    assert (
        Rungs(own, cells[2:3], [mark(c, {4: 9.0}, STOPPED)]).unfinished == frozenset()
    )  # it went further than our rung
    # stopped by a scheduler that does not wait for others: it stays so
    assert Rungs(own, cells[:1], [mark(a, {3: 1.0}, STOPPED, by="asha")]).unfinished == frozenset()


def test_baselines_go_along(sweep: Sweep) -> None:
    own = halving_rule(sweep)
    assert own is not None
    baselines = {cell.baseline_uid for cell in sweep.cells}
    rungs = Rungs(own, sweep.cells)
    for step, left in ((3, 18), (6, 10)):
        rungs.tell(
            mark(cell.uid, dict.fromkeys((3, step), cell.trial.training.lr), STOPPED)
            for cell in sweep.cells
            if cell.uid in rungs.unfinished
        )
        assert len(rungs.unfinished) == left
        assert rungs.unfinished >= baselines
