"""A member of a pack gets, bit for bit on the CPU, what it gets alone: any recipe, any neighbors, any place."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from dse.numerics.recipe import override
from dse.numerics.registry import to_data
from dse.pack.grouping import member_order
from dse.pack.step import TrainStep
from dse.recipes import RECIPES
from dse.results.record import DIVERGED, FAILED, OK, Record
from dse.tasks import TASKS
from dse.train.loop import run_pack, run_trial
from dse.trial import Trial
from tests.processors.workloads import shrink
from tests.records import content

pytestmark = pytest.mark.usefixtures("short_sampling")

REGRESSION = TASKS["regression"]()
SHORT = replace(REGRESSION.training(), steps=6, batch=16, eval_every=3)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def assert_pack_equals_solo(trials: list[Trial], solo: list[Record] | None = None) -> list[Record]:
    together = run_pack(trials)
    solo = solo or [run_trial(trial) for trial in trials]
    for trial, a, b in zip(trials, together, solo, strict=True):
        assert a.error is None
        assert b.error is None
        assert content(a) == content(b), f"{trial.recipe.name} seed {trial.seed} differs in the pack"
    return together


def assert_same_steps(trials: list[Trial]) -> None:
    """Two steps, without evaluations, which would take most of the time."""
    data = trials[0].task.load()
    whole, *alone = (TrainStep(some, data, "cpu", use_kernels=False) for some in (trials, *([t] for t in trials)))
    for step in (whole, *alone):
        step.step()
        step.step()
    assert whole.log.isfinite().all()
    for i, one in enumerate(alone):
        assert torch.equal(whole.log[:, i], one.log[:, 0]), trials[i].recipe.name
        assert torch.equal(whole.pack.flat[i], one.pack.flat[0]), trials[i].recipe.name


def test_every_recipe_takes_the_same_steps() -> None:
    trials = [
        Trial(REGRESSION, replace(SHORT, steps=2, batch=8), recipe, i % 3) for i, recipe in enumerate(RECIPES.values())
    ]
    assert_same_steps([trials[i] for i in member_order(trials, use_kernels=False)])


@pytest.mark.parametrize(
    "names", [sorted(RECIPES)[::6], pytest.param(list(RECIPES), marks=pytest.mark.exhaustive)], ids=len
)
def test_every_recipe_in_one_pack(names: list[str]) -> None:
    training = replace(SHORT, steps=3)
    trials = [
        Trial(REGRESSION, training, recipe, seed=i % 3) for i, recipe in enumerate(map(RECIPES.__getitem__, names))
    ]
    random.Random(0).shuffle(trials)
    records = assert_pack_equals_solo(trials)
    assert {record.status for record in records} == {OK}
    assert [record.uid for record in records] == [trial.uid for trial in trials]
    assert {record.pack["width"] for record in records} == {len(names)}
    assert sorted(record.pack["position"] for record in records) == list(range(len(names)))


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.exhaustive)], ids=["small", "whole"])
@pytest.mark.parametrize(
    "name", ["image", "vit", "diffusion", pytest.param("edm", marks=pytest.mark.exhaustive), "lm", "addition"]
)
def test_every_task(name: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not whole:
        shrink(monkeypatch)
    task = {
        "vit": TASKS["image"](net="vit"),
        "edm": TASKS["diffusion"](process="edm"),
    }.get(name) or TASKS[name]()
    training = replace(task.training(), steps=3, batch=4)
    recipes = ("bf16", "mxfp4_rht_sr", "nvfp4", "quartet")
    trials = [Trial(task, training, RECIPES[r], seed) for seed, r in enumerate(recipes)]
    assert_pack_equals_solo(trials)


def test_neighbors_and_place_do_not_matter() -> None:
    me = Trial(REGRESSION, SHORT, RECIPES["nvfp4"], 7)
    alone = content(run_trial(me))
    for seed in range(3):
        generator = random.Random(seed)
        others = [
            Trial(REGRESSION, replace(SHORT, lr=generator.uniform(1e-4, 1e-2)), RECIPES[r], generator.randrange(99))
            for r in generator.sample(sorted(RECIPES), seed * 4)
        ]
        trials = [*others, me]
        generator.shuffle(trials)
        assert content(run_pack(trials)[trials.index(me)]) == alone, f"seed {seed}"


def test_settings_per_member() -> None:
    settings = [
        SHORT,
        replace(SHORT, lr=1e-3, weight_decay=0.1),
        replace(SHORT, betas=(0.8, 0.99), clip=0.01),
        replace(SHORT, warmup=0.5, schedule="linear", clip=0.0),
    ]
    records = assert_pack_equals_solo([Trial(REGRESSION, t, RECIPES["mxfp4"], 1) for t in settings])
    assert len({record.metric for record in records}) == len(settings)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd", "lr": 0.05},
        {"optimizer": "stable_spam"},
        {"optimizer": "muon", "first_moment": "fp8", "second_moment": "nvfp4_hadamard", "decayed": "matrices"},
        {"loss_scaling": "dynamic"},
        pytest.param({"loss_scaling": "static"}, marks=pytest.mark.exhaustive),
    ],
    ids=str,
)
def test_optimizers_and_loss_scaling(change: dict[str, object]) -> None:
    training = replace(SHORT, **change)  # type: ignore[arg-type]
    recipes = ("bf16", "mxfp4", "tetrajet2", "nvfp4")  # one of them with a weight rule
    assert_pack_equals_solo([Trial(REGRESSION, training, RECIPES[r], s) for s, r in enumerate(recipes)])


@pytest.mark.parametrize(
    "schedule",
    [
        pytest.param("last_stage", marks=pytest.mark.exhaustive),
        "forward_only",
        "noise_switch",
        {"last_stage": {"share": 0.5}},
        {"switch": {"to": to_data(RECIPES["mlperf_mxfp4_healing"].schedule.to), "step": 3}},  # type: ignore[union-attr]
    ],
    ids=lambda schedule: schedule if isinstance(schedule, str) else next(iter(schedule)),
)
def test_schedules_switch_members_one_by_one(schedule: object) -> None:
    names = ("nvfp4", "mxfp4", "mxfp4_rht_sr", "nvfp4")
    recipes = [
        RECIPES[name] if i == 3 else override(RECIPES[name], "schedule", schedule) for i, name in enumerate(names)
    ]
    assert_pack_equals_solo([Trial(REGRESSION, SHORT, recipe, seed) for seed, recipe in enumerate(recipes)])


def test_a_member_that_diverges_leaves_the_others_alone() -> None:
    wild = replace(SHORT, lr=1e6, clip=0.0, warmup=0.0, eval_every=0)
    calm = replace(SHORT, eval_every=0)
    trials = [Trial(REGRESSION, wild if i == 1 else calm, RECIPES["nvfp4"], i) for i in range(3)]
    records = assert_pack_equals_solo(trials)
    assert [record.status for record in records] == [OK, DIVERGED, OK]
    gone = records[1]
    assert gone.metric is None
    assert gone.diverged_at is not None
    assert gone.diverged_where
    assert gone.curve[-1][0] == gone.diverged_at


def test_nan_in_a_member_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [Trial(REGRESSION, SHORT, RECIPES[r], 3) for r in ("mxfp4", "nvfp4", "nvfp4", "bf16")]
    whole = run_pack(trials)
    real = TrainStep.step

    def poisoned(self: TrainStep) -> None:
        if int(self.pack.step) == 2:
            for layer in self.pack.layers.values():
                layer.w[1].fill_(torch.nan)
        real(self)

    monkeypatch.setattr(TrainStep, "step", poisoned)
    hurt = run_pack(trials)
    at = next(i for i, record in enumerate(hurt) if record.status == DIVERGED)
    assert (hurt[at].diverged_at, hurt[at].diverged_where) == (2, "parameter layers.0.weight is not finite")
    for i, (a, b) in enumerate(zip(whole, hurt, strict=True)):
        assert i == at or content(a) == content(b)


def test_a_trial_that_raises_does_not_take_the_others_along(monkeypatch: pytest.MonkeyPatch) -> None:
    from dse.numerics.block import BlockQuantizer

    trials = [Trial(REGRESSION, SHORT, RECIPES[r], 3) for r in ("mxfp4", "nvfp4", "mxfp8", "bf16", "ue5m3")]
    whole = run_pack(trials)
    real = BlockQuantizer.__call__

    def broken(self: BlockQuantizer, *args: object) -> object:
        if self.element.name == "e4m3":
            raise ArithmeticError("broken on purpose")
        return real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(BlockQuantizer, "__call__", broken)
    records = run_pack(trials)
    assert [record.status for record in records] == [OK, OK, FAILED, OK, OK]
    assert "broken on purpose" in (records[2].error or "")
    for i in (0, 1, 3, 4):
        assert content(records[i]) == content(whole[i])
