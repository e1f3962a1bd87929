"""Members of a pack whose attention is quantized, or not, get bit for bit on the CPU what they get alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dse.numerics.recipe import Recipe, override
from dse.recipes import RECIPES
from dse.results.record import OK, STOPPED, Record
from dse.tasks import TASKS
from dse.tasks.base import Task
from dse.tasks.lm import SIZES
from dse.train.halving import HalvingRule
from dse.train.loop import TrainContext, run_pack, run_trial
from dse.train.options import RunOptions
from dse.trial import Trial
from tests.pack.test_pack_equals_solo import assert_pack_equals_solo, content, one_thread  # noqa: F401
from tests.processors.workloads import shrink

pytestmark = pytest.mark.usefixtures("short_sampling")


def numerics(name: str, attention: object = "same", **options: object) -> Recipe:
    recipe = override(RECIPES[name], "attention", attention)
    for path, value in options.items():
        recipe = override(recipe, path, value)
    return recipe


MIX = (
    numerics("nvfp4"),
    numerics("nvfp4", "none"),
    numerics("mxfp4_rht_sr"),
    numerics("bf16", "none"),
    numerics("mxfp8", {"scores": "same"}),
    override(numerics("quartet", {"outputs": "same"}), "attention.outputs.G.rounding", "stochastic"),
    override(numerics("nvfp4_plain"), "attention.smooth_keys", True),
    override(RECIPES["sageattention3"], "attention.smooth_queries", 7),
)


def task(name: str, monkeypatch: pytest.MonkeyPatch) -> Task:  # type: ignore[type-arg]
    if name == "lm":
        small = replace(SIZES["tiny"], depth=2, width=32, heads=2, hidden=48, context=16, held_out=128)
        monkeypatch.setitem(SIZES, "tiny", small)
        return TASKS["lm"](qk_norm=True)
    if name == "gpt":  # with dropout of attention weights
        small = replace(SIZES["nanogpt-gpu"], depth=1, width=32, heads=2, context=16, held_out=128)
        monkeypatch.setitem(SIZES, "nanogpt-gpu", small)
        return TASKS["lm"](size="nanogpt-gpu")
    return TASKS["image"](net="vit") if name == "vit" else TASKS[name]()


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.exhaustive)], ids=["small", "whole"])
@pytest.mark.parametrize("name", ["lm", "gpt", "vit", "diffusion"])
def test_every_net(name: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """``small``: evaluated on a few images or tokens."""
    if not whole:
        shrink(monkeypatch)
    own = task(name, monkeypatch)
    training = replace(own.training(), steps=2, batch=3, eval_every=0)
    mix = MIX if name in ("lm", "gpt") else (MIX[0], MIX[1], MIX[6], MIX[7])
    records = assert_pack_equals_solo([Trial(own, training, recipe, i % 3) for i, recipe in enumerate(mix)])
    assert {record.status for record in records} == {OK}
    assert len({record.metric for record in records}) == len(mix)


def small_lm(monkeypatch: pytest.MonkeyPatch, steps: int = 8) -> list[Trial]:
    """Trials of a small decoder, some of whose schedules switch attention off or to its forward products."""
    own = task("gpt", monkeypatch)
    training = replace(own.training(), steps=steps, batch=2, eval_every=0)
    schedules = (
        {"last_stage": {"share": 0.5}},
        {"forward_only": {"share": 0.5}},
        "none",
        {"last_stage": {"share": 0.25}},
    )
    recipes = [numerics("nvfp4_plain", schedule=schedule) for schedule in schedules]
    return [Trial(own, training, recipe, 3) for recipe in recipes]


def test_schedules_switch_members_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    records = assert_pack_equals_solo(small_lm(monkeypatch))
    assert len({record.metric for record in records}) == 4


def test_survivors_go_on_where_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = small_lm(monkeypatch)
    records = run_pack(trials, TrainContext(RunOptions(halving=HalvingRule(eta=2, rungs=(0.75,)))))
    assert [record.status for record in records].count(STOPPED) == 2
    for trial, record in zip(trials, records, strict=True):
        if record.status == OK:
            assert replace_evals(record) == replace_evals(run_trial(trial))


def replace_evals(record: Record) -> object:
    """A rung evaluates once more."""
    return content(replace(record, evals=record.evals[-1:]))


def test_checkpoints_know_the_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program restored after its last step is evaluated as the whole run is."""
    from dse.pack.state import MemberRows, State, load_members, state
    from dse.pack.step import TrainStep

    trials = small_lm(monkeypatch)
    data = trials[0].task.load()
    whole = TrainStep(trials, data, "cpu", False)
    for step in range(8):
        whole.pack.reschedule(step, 8)
        whole.step()
    saved = State.of(state(whole).plain())
    rows = [3, 1]
    again = TrainStep([trials[row] for row in rows], data, "cpu", False)
    load_members(again, MemberRows(saved, dict(enumerate(rows))))
    expected = whole.evaluate()
    for name, values in again.evaluate().items():
        assert values == [expected[name][row] for row in rows]
    heads = next(iter(again.pack.attentions.values()))
    assert heads.phases == ["off", "forward"]
    assert torch.equal(again.pack.flat, whole.pack.flat[rows])
