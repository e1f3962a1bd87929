"""Members whose products are in parts: trainings that go on, skipped steps, and looks that leave no trace."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from dse.alarms.checker import GemmChecker
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.decompositions import HotChannels, LowRank, OutControl
from dse.pack.state import MemberRows, State, load_members, state
from dse.pack.step import TrainStep
from dse.probes import Probes
from dse.probes.prober import Prober
from dse.recipes import RECIPES
from dse.tasks import TASKS
from dse.trial import Trial

TASK = TASKS["regression"]()
STEPS = 8


def recipes() -> list[Recipe]:
    """Every decomposition, at work from the first steps on, and one recipe without."""
    nvfp4 = RECIPES["nvfp4"]
    return [
        replace(RECIPES["tetrajet2_outcontrol"], decomposition=OutControl(0.3, start=1, track=1)),
        replace(nvfp4, decomposition=HotChannels(0.2, every=3)),
        replace(nvfp4, decomposition=LowRank(4, every=3)),
        RECIPES["nvfp4_averis"],
        nvfp4,
    ]


def program(order: list[int], loss_scaling: str = "none") -> TrainStep:
    training = replace(TASK.training(), steps=STEPS, batch=16, loss_scaling=loss_scaling, lr=1e-3)
    trials = [Trial(TASK, training, recipes()[i], i) for i in order]
    return TrainStep(trials, TASK.load(), "cpu", False)


def trained(p: TrainStep, steps: range) -> None:
    for step in steps:
        p.pack.refresh(step)
        p.step()


def copied(p: TrainStep) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in p.tensors().items()}


def kept(p: TrainStep) -> dict[str, Tensor]:
    return {name: t for name, t in copied(p).items() if ".parts_" in name}


def test_a_training_goes_on_in_another_pack_bit_for_bit() -> None:
    one = program([0, 1, 2, 3, 4])
    trained(one, range(4))
    saved = State.of(copy.deepcopy(state(one).plain()))
    trained(one, range(4, STEPS))
    order = [3, 2, 0, 1]
    two = program(order)
    load_members(two, MemberRows(saved, dict(enumerate(order))))
    trained(two, range(4, STEPS))
    assert torch.equal(two.pack.flat, one.pack.flat[order])


def test_a_skipped_step_leaves_what_is_kept() -> None:
    p = program([0, 1], "dynamic")
    trained(p, range(2))
    before = kept(p)
    assert len(before) >= 3
    p.tensors()["scaling.factor"].fill_(torch.inf)
    p.step()
    assert all(torch.equal(t, before[name]) for name, t in kept(p).items())
    p.tensors()["scaling.factor"].fill_(2.0)
    p.step()
    assert any(not torch.equal(t, before[name]) for name, t in kept(p).items())


def test_probes_and_checks_see_the_parts_and_change_nothing() -> None:
    """The checks find what the reference finds; the quantizers' operands are those of the parts."""
    p = program([0, 1, 2, 3, 4])
    trained(p, range(4))
    before = copied(p)
    checker, prober = GemmChecker(), Prober(Probes(every=1))
    checker._check(p, 4, 0)
    prober(p, 4)
    assert all(torch.equal(t, before[name]) or bool(t.isnan().any()) for name, t in copied(p).items())
    for trial in p.pack.trials:
        rows = checker.rows[trial.uid]
        assert {row[2] for row in rows} >= {"fprop", "wgrad"}
        for *_, values in rows:
            assert abs(values["gain"] - values["expected_gain"]) < 0.1
            assert values["error"] < 1.3 * values["expected_error"] + 1e-3
    errors = {
        number: {row[2]: row[3]["error"] for row in prober.rows[p.pack.trials[number].uid] if row[1] == first(p)}
        for number in (3, 4)
    }
    assert errors[3]["fprop.lhs"] != errors[4]["fprop.lhs"], "residuals of a mean, not X itself"


def first(p: TrainStep) -> str:
    return next(iter(p.pack.layers))
