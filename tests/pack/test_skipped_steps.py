"""A step that loss scaling skips leaves a member as it was: parameters, optimizer, weight rules, held scales."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dse.numerics.recipe import override
from dse.optim import OPTIMIZERS
from dse.pack.step import TrainStep
from dse.recipes import RECIPES
from dse.tasks import TASKS
from dse.trial import Trial

TASK = TASKS["regression"]()
HELD = override(RECIPES["ue5m3"], "*.tensor_scale", {"delayed": {"every": 2}})
RULES = ("tetrajet_q_ema", "tetrajet_q_ramping", "tetrajet2", "fp4_all_the_way_qaf", "nvfp4", "ue5m3")
MEMBERS = [HELD, replace(HELD, weights=RECIPES["tetrajet_q_ema"].weights), *(RECIPES[name] for name in RULES)]
MOVES = {"clock", "log", "norms", "bound", "scaling.factor", "scaling.good"}
"""What a skipped step does change: the clock, what is reported, the first loss, and the loss scale."""


def program(optimizer: str) -> TrainStep:
    training = replace(TASK.training(), steps=8, batch=16, optimizer=optimizer, loss_scaling="dynamic", lr=1e-3)
    trials = [Trial(TASK, training, recipe, seed) for seed, recipe in enumerate(MEMBERS)]
    return TrainStep(trials, TASK.load(), "cpu", False)


def state(p: TrainStep) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in p.tensors().items()}


def overflow(p: TrainStep, members: Tensor) -> None:
    """Makes the gradients of some members overflow in the next step."""
    p.tensors()["scaling.factor"][members] = torch.inf


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_nothing_moves_in_a_skipped_step(optimizer: str) -> None:
    """At the first step, where nothing is held, and at a later one at which scales are sampled again."""
    p, everyone = program(optimizer), torch.ones(len(MEMBERS), dtype=torch.bool)
    for step in range(5):
        before = state(p)
        if step in (0, 4):
            overflow(p, everyone)
        p.step()
        after = state(p)
        moved = {name for name in after if not torch.equal(after[name].nan_to_num(9), before[name].nan_to_num(9))}
        if step in (0, 4):
            assert moved <= MOVES
            assert not after["scaling.good"].any()
            p.tensors()["scaling.factor"].fill_(2.0**10)
        else:
            assert {"flat", "clock"} <= moved
    memory = [t for name, t in p.tensors().items() if name.endswith("memory")]
    assert memory
    assert all(t.isfinite().all() for t in memory)
    assert p.alive.all()


def test_only_members_that_overflow_stay() -> None:
    """The others' step is, bit for bit, what it is where nobody overflows."""
    whole, hurt = program("adamw"), program("adamw")
    some = torch.arange(len(MEMBERS)) % 2 == 0
    for _ in range(2):
        whole.step()
        hurt.step()
    before = state(hurt)
    overflow(hurt, some)
    whole.step()
    hurt.step()
    assert torch.equal(hurt.pack.flat[~some], whole.pack.flat[~some])
    assert torch.equal(hurt.pack.flat[some], before["flat"][some])
    assert not torch.equal(whole.pack.flat[some], before["flat"][some])
    for name, t in hurt.tensors().items():
        if name.endswith("memory"):
            assert torch.equal(t[some], before[name][some])
            assert torch.equal(t[~some], whole.tensors()[name][~some])


def test_an_infinite_first_loss_is_a_divergence() -> None:
    """It would set an infinite bound for all later ones."""
    p = program("sgd")
    p.pack.flat[1].mul_(1e30)
    p.step()
    assert p.diverged_at.tolist() == [0 if member == 1 else -1 for member in range(len(MEMBERS))]
    assert p.alive.tolist() == [member != 1 for member in range(len(MEMBERS))]
