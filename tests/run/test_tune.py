"""ASHA through Ray Tune: small real sweeps, and decisions checked against the metrics at the rungs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

from dse.errors import UserError
from dse.report.analysis.rungs import rung_tables
from dse.report.analysis.tidy import tabulate
from dse.results.record import DIVERGED, FAILED, OK, STOPPED, Record
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.run.executors.tune import TuneExecutor
from dse.run.queue.pack_queue import PackQueue, WorkItem
from dse.sweep import Cell, Sweep, load_sweep
from dse.train.halving import HalvingRule
from dse.train.loop import run_trial
from dse.train.options import RunOptions

TEXT = """
name: asha
tasks: [{regression: {training: {steps: 24, batch: 16}}}]
recipes: [mxfp4, nvfp4]
baseline: {recipe: bf16, training.lr: 3e-3}
seeds: 2
search: {method: grid, halving: {eta: 2, rungs: [0.25, 0.5]}}
grid: {training.lr: [1e-2, 1e-3, 1e-4]}
"""
QUIET: dict[str, Any] = {"track": False, "progress": False, "compact": False}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Sweep]:
    def write(text: str = TEXT) -> Sweep:
        path = tmp_path / "asha.yaml"
        path.write_text(text, encoding="utf-8")
        return load_sweep(path)

    return write


def test_a_sweep_through_ray_tune(load: Callable[..., Sweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker, so the order of arriving is that of the sweep, and who stops can be told beforehand."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    sweep, store = load(), Store(tmp_path / "results")
    summary = run_sweep(sweep, store, RunOptions("tune", workers=1, **QUIET))
    assert (summary.total, summary.left, summary.failed) == (14, 0, 0)
    records = {record.uid: record for record in store.records()}
    groups: dict[str, list[Record]] = {}
    for cell in sweep.cells:
        groups.setdefault(cell.config, []).append(records[cell.uid])
    seen: dict[int, list[float]] = {1: [], 2: []}
    for config, own in groups.items():
        assert {record.pack["width"] for record in own} == {2}, "the seeds of a configuration are a pack"
        if "bf16" in config:
            assert {record.status for record in own} == {OK}
            continue
        for rung, step in ((1, 6), (2, 12)):
            metric = fmean(dict(map(tuple, record.evals))[step] for record in own)  # type: ignore[arg-type]
            lost = bool(seen[rung]) and metric > _cutoff(seen[rung])
            seen[rung].append(metric)
            if lost:
                for record in own:
                    at = {"rung": rung, "step": step, "metric": record.evals[-1][1], "by": "asha"}
                    assert (record.status, record.stopped) == (STOPPED, at)
                    assert record.curve == run_trial(_trial(sweep, record.uid)).curve[:step]
                break
        else:
            assert {record.status for record in own} == {OK}
    assert summary.halved >= 4
    done = next(record for record in records.values() if record.status == OK)
    assert done.metric == run_trial(_trial(sweep, done.uid)).metric, "three legs give the numbers of one training"
    (ladder,) = rung_tables(sweep, tabulate(sweep, records.values()))
    assert {one.reached for one in ladder.results} >= {"2 to the end", "2 to rung 1"}
    assert run_sweep(sweep, store, RunOptions("tune", **QUIET)).ran == 0
    assert run_sweep(sweep, store, RunOptions("local", **QUIET)).ran == 0, (
        "stopped for good, whoever runs the sweep next"
    )


def _cutoff(before: list[float]) -> float:
    """The median, as numpy's percentile gives it: with eta 2 the better half goes on."""
    own, half = sorted(before), (len(before) - 1) / 2
    return own[int(half)] + (half % 1) * (own[int(half + 0.5)] - own[int(half)])


def _trial(sweep: Sweep, uid: str) -> Any:
    return next(cell.trial for cell in sweep.cells if cell.uid == uid)


@pytest.mark.slow
def test_a_search_asks_one_at_a_time(
    load: Callable[..., Sweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TPE through OptunaSearch; killed searches go on from what was asked and what is known."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    text = TEXT.replace("method: grid", "method: tpe, trials: 7, startup: 3, seed: 1")
    text = text.replace("[1e-2, 1e-3, 1e-4]", "{log: [1e-4, 1e-2]}")
    sweep, store = load(text), Store(tmp_path / "results")
    summary = run_sweep(sweep, store, RunOptions("tune", workers=2, **QUIET))
    assert (summary.total, summary.left, summary.failed) == (16, 0, 0)
    more = load(text.replace("trials: 7", "trials: 9"))
    again = run_sweep(more, Store(tmp_path / "results"), RunOptions("tune", workers=2, **QUIET))
    assert (again.ran, again.left) == (4, 0)


@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_optuna_search_is_told_everything(load: Callable[..., Sweep], method: str) -> None:
    from dse.run.search.journal import key_of
    from dse.run.search.one_by_one import OneByOne
    from dse.run.search.study import AskRequest, Observation

    text = TEXT.replace("method: grid", f"method: {method}, trials: 99, seed: 1")
    sweep = load(text.replace("[1e-2, 1e-3, 1e-4]", "{log: [1e-4, 1e-2]}"))
    asker = OneByOne(sweep, workers=3)
    assert [asker.batch_size(5, waiting) for waiting in range(5)] == [1, 1, 1, 0, 0]
    told: list[Observation] = []
    for number in range(12):
        seen = {key_of(item.assignment) for item in told}
        (new,) = asker.ask(AskRequest("regression", told, seen, 1, lambda _: True))
        assert key_of(new) not in seen
        told.append(Observation(new, None if number % 4 == 3 else (float(number), 1.0)))
    later = OneByOne(sweep, workers=3)  # after a crash
    request = AskRequest("regression", told, {key_of(item.assignment) for item in told}, 1, lambda _: True)
    later.ask(request)
    asker.ask(request)
    views = [
        [
            (t.params["recipe"], f"{t.params['training.lr']:.4g}", t.values)
            for t in one._studies["regression"]._study.trials
            if t.state.is_finished()
        ]
        for one in (asker, later)
    ]
    assert views[0] == views[1]
    assert len(views[0]) == 12


def test_asha_knows_what_earlier_runs_saw(load: Callable[..., Sweep]) -> None:
    from dse.run.executors.asha import GroupedASHA, past_metrics
    from dse.run.executors.configuration import BUDGET, METRIC, WORST, TuneItem

    sweep = load()
    rule = HalvingRule(2, (0.25, 0.5), frozenset(cell.baseline_uid for cell in sweep.cells))
    cells = [cell for cell in sweep.cells if cell.uid not in rule.spared]
    by = {config: [cell for cell in cells if cell.config == config] for config in {cell.config for cell in cells}}
    (good, bad, half, new), names = list(by.values())[:4], list(by)

    def known(own: list[Cell], status: str, *evals: list[float]) -> list[Record]:
        return [
            Record(cell.uid, "b", status, "t", "r", "c", cell.trial.seed, {}, evals=[*map(list, evals)])  # type: ignore[arg-type]
            for cell in own
        ]

    results = known(good, OK, [6, 1.0], [12, 0.5]) + known(bad, STOPPED, [6, 3.0]) + known(half, DIVERGED, [6, 2.0])[:1]
    results += known(new[:1], OK, [6, 1.0]) + known(new[1:], FAILED)
    found = past_metrics(rule, sweep.cells, results)
    assert sorted((rung, metric) for _, rung, metric in found) == [(1, 1.0), (1, 3.0), (1, WORST), (2, 0.5)], names
    asha = GroupedASHA(rule, found)

    def decide(own: list[Cell], budget: int, metric: float) -> str:
        trial = SimpleNamespace(trial_id="new", config={"item": TuneItem(WorkItem(tuple(own), 2), (1, 2), 2)})
        asha.on_trial_add(None, trial)
        return asha.on_trial_result(None, trial, {BUDGET: budget, METRIC: metric})

    assert decide(new, 1, 3.5) == "STOP"
    assert decide(new, 2, 0.4) == "CONTINUE"
    spared = SimpleNamespace(trial_id="b", config={"item": TuneItem(WorkItem(tuple(new), 2))})
    asha.on_trial_add(None, spared)
    assert asha.on_trial_result(None, spared, {}) == "CONTINUE"


def test_baselines_and_pasts_need_no_ray(load: Callable[..., Sweep]) -> None:
    executor = TuneExecutor(RunOptions(halving=None))
    executor.set_history(load().cells, [])
    assert executor.workers >= 1


def test_mistakes(load: Callable[..., Sweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="GPUs per worker must be more than 0 and at most 1, not 2"):
        run_sweep(load(), Store(tmp_path), RunOptions("tune", gpus=2.0, **QUIET))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"RAY_ADDRESS=127.0.0.1:1 cannot be reached"):
        run_sweep(load(), Store(tmp_path), RunOptions("tune", **QUIET))
    assert replace(RunOptions(), gpus=0.5).gpus == 0.5


def test_the_bridge_without_ray(
    load: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch, make_record: Callable[..., Record]
) -> None:
    """A configuration whose worker dies is handed out again seed by seed; a seed that ASHA has stopped says so."""
    import ray

    from dse.run.executors.attempts import Attempts
    from dse.run.executors.configuration import ERROR, RECORDS
    from dse.run.executors.tune_bridge import TuneBridge

    status = SimpleNamespace(poll=SimpleNamespace(remote=lambda *_: (0, 0.0, [])))
    monkeypatch.setattr(ray, "remote", lambda **_: lambda _class: SimpleNamespace(remote=lambda: status))
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    cells, found = load().cells[:2], list[tuple[Cell, Record]]()
    options = RunOptions(timeout=1e-9)
    attempts = Attempts(options, PackQueue(cells, 2, width=2), found.extend, workers=1)
    bridge = TuneBridge(options, attempts, lambda *_: None, threading.Event())

    def suggest(trial_id: str) -> list[str]:
        config = bridge.suggest(trial_id)
        assert isinstance(config, dict)
        return [cell.uid for cell in config["item"].item.cells]

    uids = [cell.uid for cell in cells]
    assert suggest("both") == uids
    assert bridge.suggest("more") is None, "the one worker is busy"
    assert not bridge.should_kill("both"), "the time of the worker's grace is left"
    assert not bridge.should_kill("unknown")
    bridge.on_trial_error("both", "killed")
    assert suggest("first") == uids[:1]
    stopped = make_record(uids[0], STOPPED, stopped={"rung": 1, "step": 6, "metric": 0.5})
    bridge.on_trial_result("first", {RECORDS: [stopped.line()], "done": False})
    assert not found, "it may go on yet"
    bridge.on_trial_result("first", {RECORDS: [stopped.line()], "done": True})
    for trial_id in ("second", "again"):
        assert suggest(trial_id) == uids[1:]
        bridge.on_trial_error(trial_id, "killed")
    assert [(cell.uid, record.uid, record.status) for cell, record in found] == [
        (uids[0], uids[0], STOPPED),
        (uids[1], uids[1], FAILED),
    ]
    assert found[0][1].stopped == {**stopped.stopped, "by": "asha"}
    assert found[1][1].error == "the worker died 2 times while it ran this trial:\nkilled"
    assert bridge.suggest("none") == "FINISHED"
    with pytest.raises(UserError, match=r"^no data$"):
        bridge.on_trial_result("none", {ERROR: "no data", "done": True})
