"""Successive halving: who stops at a rung, and survivors that are bit-identical to trials that were never compared."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dse.errors import UserError
from dse.recipes import RECIPES
from dse.results.gaps import metric_at
from dse.results.outcome import reason
from dse.results.record import DIVERGED, OK, STOPPED, Record
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.sweep import load_sweep
from dse.tasks import TASKS
from dse.tasks.base import Training
from dse.train import width
from dse.train.halving import HalvingRule, RungPlan, RungTarget
from dse.train.loop import TrainContext, run_pack, run_trial
from dse.train.options import RunOptions
from dse.trial import Trial

STEPS = 12


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def trial(recipe: str, lr: float, seed: int, **training: object) -> Trial:
    own = Training(steps=STEPS, batch=16, lr=lr, **training)  # type: ignore[arg-type]
    return Trial(TASKS["regression"](), own, RECIPES[recipe], seed)


def test_rungs_are_steps_before_the_last() -> None:
    assert HalvingRule(3, (1 / 9, 1 / 3)).at(90) == {10: 1, 30: 2}
    assert HalvingRule(3, (0.01, 0.9)).at(2) == {1: 1}


def test_who_loses() -> None:
    trials = [trial("mxfp4", lr, seed) for lr in (1e-3, 2e-3, 3e-3, 4e-3) for seed in (0, 1)]
    metrics = [3.0, 1.0, 0.5, None, 1.5, 1.5, 0.1, 0.2]  # means 2, diverged, 1.5, 0.15
    assert HalvingRule(2, ()).losers(trials, metrics) == [0, 1, 2]
    assert HalvingRule(4, ()).losers(trials, metrics) == [0, 1, 2, 4, 5]
    spared = HalvingRule(4, (), frozenset({trials[0].uid, trials[1].uid}))
    assert spared.losers(trials, metrics) == [2, 4, 5]
    assert HalvingRule(3, ()).losers(trials[:2], metrics[:2]) == []


def test_how_far_a_pack_trains_and_where_it_ranks() -> None:
    trials, rule = [trial("mxfp4", lr, 0) for lr in (1e-3, 2e-3)], HalvingRule(2, (0.25, 0.5))

    def plan(rule: HalvingRule | None, target: RungTarget | None) -> tuple[int, list[int]]:
        own = RungPlan.of(trials, rule, target)
        return own.stop_at, [step for step in range(STEPS + 1) if own.ranks_at(step)]

    assert plan(None, None) == plan(None, RungTarget(1)) == (STEPS, [])
    assert plan(rule, None) == plan(rule, RungTarget(1, 2)) == (STEPS, [3, 6])
    assert plan(rule, RungTarget(2, 2)) == (STEPS, [6])  # the first rung has been decided elsewhere
    assert plan(rule, RungTarget(1)) == plan(rule, RungTarget(1, 3)) == (3, [])  # pauses for others
    assert plan(rule, RungTarget(2)) == (6, [])
    assert plan(rule, RungTarget()) == (STEPS, [])


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("stable_spam", marks=pytest.mark.exhaustive)])
def test_survivors_are_bit_identical(optimizer: str) -> None:
    """With delayed scales, Q-EMA, schedules: everything that a layer or an optimizer remembers."""
    recipes = ["bf16", "mxfp4", "nvfp4", *(name for name in ("tetrajet", "fp4_all_the_way", "zhou") if name in RECIPES)]
    trials = [
        trial(recipe, lr, seed, optimizer=optimizer, clip=1.0)
        for seed in (0, 1)
        for recipe in recipes
        for lr in (1e-3, 1e-2)
    ]
    spared = frozenset(t.uid for t in trials if t.recipe.name == "bf16")
    records = run_pack(trials, TrainContext(RunOptions(halving=HalvingRule(2, (0.25, 0.5), spared))))
    assert [record.uid for record in records] == [t.uid for t in trials]
    status = {OK: 0, STOPPED: 0, DIVERGED: 0}
    for own, record in zip(trials, records, strict=True):
        status[record.status] += 1
        alone = run_trial(own)
        if record.status == OK:
            assert (record.metric, record.curve) == (alone.metric, alone.curve)
            assert [step for step, _ in record.evals] == [0, 3, 6, 12]
        if record.status == STOPPED:
            assert own.uid not in spared
            at = record.stopped
            assert (at["rung"], at["step"]) in ((1, 3), (2, 6))
            assert record.metric is None
            assert record.evals[-1] == [at["step"], at["metric"]]
            assert record.curve == alone.curve[: at["step"]]
            assert reason(record) == f"at rung {at['rung']}, step {at['step']}, with {at['metric']:.6g}"
        assert Record.parse(record.line()).stopped == record.stopped
    groups = len(recipes) * 2 - 2
    left = math.ceil(math.ceil(groups / 2) / 2)
    assert status == {OK: 2 * left + len(spared), STOPPED: 2 * (groups - left), DIVERGED: 0}


def test_members_that_diverged_leave_too() -> None:
    wild = replace(trial("mxfp4", 1e3, 0), training=replace(trial("mxfp4", 1e3, 0).training, optimizer="sgd"))
    calm = [replace(wild, training=replace(wild.training, lr=lr)) for lr in (1e-3, 1e-4)]
    records = run_pack([wild, *calm], TrainContext(RunOptions(halving=HalvingRule(2, (0.5,)))))
    assert records[0].status == DIVERGED
    assert sorted(r.status for r in records[1:]) == [OK, OK]  # the diverged one is the worse half
    assert [r.metric for r in records[1:]] == [run_trial(t).metric for t in calm]


SWEEP = """
name: halved
tasks: [{regression: {training: {steps: 12, batch: 16}}}]
recipes: [mxfp4, nvfp4]
baseline: {recipe: bf16, training.lr: 1e-3}
seeds: 2
search: {method: grid, halving: {eta: 2, rungs: [0.5]}}
grid: {training.lr: [1e-4, 1e-3, 1e-2]}
"""


def test_a_sweep_that_halves_and_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(width, "measured_width", lambda trials, *_: len(trials))
    path, store = tmp_path / "halved.yaml", Store(tmp_path / "results")
    path.write_text(SWEEP, encoding="utf-8")
    sweep = load_sweep(path)
    first = run_sweep(sweep, store, RunOptions("local", track=False, progress=False))
    assert (first.total, first.ok, first.halved, first.left) == (14, 8, 6, 0)
    assert run_sweep(sweep, store, RunOptions("local")).ran == 0
    records = {record.uid: record for record in store.records()}
    for cell in sweep.cells:
        own, base = records[cell.uid], records[cell.baseline_uid]
        assert base.status == OK
        assert metric_at(own.evals, 6) is not None
        assert metric_at(base.evals, 6) is not None
        assert metric_at(own.evals, 5) is None
    path.write_text(SWEEP.replace(", halving: {eta: 2, rungs: [0.5]}", ""), encoding="utf-8")
    full = run_sweep(load_sweep(path), store, RunOptions("local", track=False, progress=False))
    assert (full.ran, full.ok, full.halved) == (6, 14, 0)
    path.write_text(SWEEP, encoding="utf-8")
    assert run_sweep(load_sweep(path), store, RunOptions("local", track=False)).ran == 0


@pytest.mark.parametrize(
    ("halving", "text"),
    [
        ("3", "halving is a mapping such as"),
        ("{eta: 1}", "halving.eta is 1; valid: a whole number from 2 to 1000"),
        ("{etta: 3}", "halving has no 'etta'; did you mean 'eta'"),
        ("{rungs: [0.5, 0.2]}", r"halving.rungs are to rise, not \[0.5, 0.2\]"),
        ("{rungs: [1.5]}", r"halving.rungs is \[1.5\]; valid: shares of the steps between 0 and 1"),
        ("{rungs: 0}", "halving.rungs is 0; valid"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, halving: str, text: str) -> None:
    path = tmp_path / "halved.yaml"
    path.write_text(SWEEP.replace("{eta: 2, rungs: [0.5]}", halving), encoding="utf-8")
    with pytest.raises(UserError, match=r"halved.yaml:7: search: " + text):
        load_sweep(path)
    path.write_text(
        SWEEP.replace("method: grid, halving: {eta: 2, rungs: [0.5]}", "method: tpe, trials: 9, halving: {}"),
        encoding="utf-8",
    )
    with pytest.raises(UserError, match="search: halving with the method tpe needs --executor tune"):
        run_sweep(load_sweep(path), Store(tmp_path), RunOptions("local"))


def test_rungs_by_their_number(tmp_path: Path) -> None:
    path = tmp_path / "halved.yaml"
    path.write_text(SWEEP.replace("{eta: 2, rungs: [0.5]}", "{}"), encoding="utf-8")
    halving = load_sweep(path).search.halving
    assert halving
    assert halving.rungs == pytest.approx((1 / 9, 1 / 3))
