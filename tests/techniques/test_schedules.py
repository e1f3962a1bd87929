"""Precision schedules: which phase at which step, what a phase computes, and training end to end."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from dse.errors import OptionError
from dse.nn.quantize import after_step, before_step, quantize_, quantized_layers, set_clock
from dse.nn.quantized_layer import in_phase
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.random import key
from dse.numerics.recipe import Recipe
from dse.numerics.registry import from_data, to_data
from dse.numerics.techniques.schedules import SCHEDULES, ForwardOnly, LastStage, NoiseSwitch, Schedule, Switch
from dse.numerics.techniques.schedules.base import FORWARD, FULL, OFF, SWITCHED, Watch
from dse.recipes import RECIPES
from dse.sweep.language.numerics import apply_settings

SEED = 20261
BACKWARD_BF16 = replace(RECIPES["mxfp4"], dgrad=RECIPES["bf16"].dgrad, wgrad=RECIPES["bf16"].wgrad)


def normal(*shape: int, seed: int = SEED) -> Tensor:
    print("seed", seed)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("schedule", "late"), [(LastStage, OFF), (ForwardOnly, FORWARD)])
@pytest.mark.parametrize("share", ["0.1", "0.18", "0.3", "0.7", "0.75", "1"])
@pytest.mark.parametrize("steps", [1, 3, 10, 30, 1000])
def test_the_last_share_of_the_steps(
    schedule: type[LastStage | ForwardOnly], late: str, share: str, steps: int
) -> None:
    phases = [schedule(float(share)).phase(step, steps, None, FULL) for step in range(steps)]
    count = phases.count(late)
    assert phases == [FULL] * (steps - count) + [late] * count
    exact = Fraction(share) * steps
    assert count == max(1, count)
    assert abs(count - exact) <= Fraction(1, 2) or (count == 1 and exact < 1)


def watch(gradient: float, noise: float) -> Watch:
    return Watch(torch.tensor(gradient), torch.tensor(noise))


def test_the_noise_switch_is_latched_at_root_three() -> None:
    seen = [None, (2.0, 1.0), (1.7321, 1.0), (1.7320, 1.0), (100.0, 1.0), None, (0.0, 0.0)]
    phase, phases = FULL, []
    for step, item in enumerate(seen):
        phase = NoiseSwitch().phase(step, len(seen), item and watch(*item), phase)
        phases.append(phase)
    assert math.sqrt(3) > 1.7320
    assert phases == [FULL] * 3 + [FORWARD] * 4
    assert NoiseSwitch(factor=3.0).phase(1, 9, watch(2.9, 1.0), FULL) == FORWARD
    assert NoiseSwitch().phase(1, 9, watch(0.0, 0.0), FULL) == FULL  # a gradient of zeros decides nothing


def model_and_data(recipe: Recipe, width: int = 32) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(SEED)
    model = quantize_(nn.Sequential(nn.Linear(32, width), nn.Tanh(), nn.Linear(width, 8)), recipe)
    x = normal(64, 32)
    return model, x, torch.tanh(x @ normal(32, 8, seed=SEED + 1) / 4)


def results(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """Output and gradients of one step."""
    model.zero_grad()
    out = model(x)
    (out - y).square().mean().backward()
    return [out.detach(), *(p.grad for p in model.parameters())]  # type: ignore[list-item]


@pytest.mark.parametrize(("schedule", "late"), [(LastStage(0.5), RECIPES["bf16"]), (ForwardOnly(0.5), BACKWARD_BF16)])
def test_a_phase_computes_what_its_recipe_computes(schedule: Schedule, late: Recipe) -> None:
    scheduled, x, y = model_and_data(replace(RECIPES["mxfp4"], schedule=schedule))
    for step, recipe in [(0, RECIPES["mxfp4"]), (4, RECIPES["mxfp4"]), (5, late), (9, late)]:
        set_clock(scheduled, 0, step, 10)
        got, expected = results(scheduled, x, y), results(*model_and_data(recipe))
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_evaluation_after_training_stays_in_the_last_phase() -> None:
    model, x, _ = model_and_data(replace(RECIPES["mxfp4"], schedule=LastStage(0.5)))
    set_clock(model, 0, 9, 10)
    model.eval()
    set_clock(model, 0, 10)  # evaluation does not know the number of steps
    assert torch.equal(model(x), model_and_data(RECIPES["bf16"])[0](x))


def test_the_watch_holds_the_deviations_of_the_last_gradient() -> None:
    recipe = replace(RECIPES["mxfp4"], schedule=NoiseSwitch())
    model, x, _ = model_and_data(recipe)
    assert all(layer.watch is not None and layer.watch.isnan().all() for layer in quantized_layers(model))
    set_clock(model, 0, 3, 10)
    g = normal(64, 8, seed=SEED + 2)
    model(x).backward(g)
    noise = recipe.dgrad.lhs(g, key(0, 3, 1, 2)).dequantize() - g
    n = g.numel()
    deviation = math.sqrt(sum((v - g.double().mean().item()) ** 2 for v in g.flatten().tolist()) / (n - 1))
    rms = math.sqrt(sum(v * v for v in noise.flatten().tolist()) / n)
    held = quantized_layers(model)[1].watch
    assert held is not None
    assert held.tolist() == pytest.approx([deviation, rms], rel=1e-5)
    model.eval()
    model(x * 3).sum().backward()
    assert held.tolist() == pytest.approx([deviation, rms], rel=1e-5)  # evaluation is not watched


# -------------------------------------------------------------------------------------------------------- training
def train(recipe: Recipe, steps: int, observe: Callable[[list[str]], None], shrink: float = 1.0) -> list[float]:
    """Losses of a small network; ``shrink`` scales the gradient that reaches the network."""
    model, x, y = model_and_data(recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for step in range(steps):
        set_clock(model, 3, step, steps)
        observe([layer.phase for layer in quantized_layers(model)])
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        (loss * shrink).backward()
        before_step(model)
        optimizer.step()
        after_step(model)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("schedule", "late"), [(LastStage(0.2), OFF), (ForwardOnly(0.2), FORWARD)])
def test_training_under_a_schedule(schedule: Schedule, late: str) -> None:
    phases: list[list[str]] = []
    losses = train(replace(RECIPES["mxfp4"], schedule=schedule), 30, phases.append)
    plain = train(RECIPES["mxfp4"], 30, lambda _: None)
    assert phases == [[FULL] * 2] * 24 + [[late] * 2] * 6
    assert losses[-1] < 0.6 * losses[0]
    assert losses[:24] == plain[:24]
    assert losses[24:] != plain[24:]


def test_training_with_the_noise_switch() -> None:
    """Scales without range below: a gradient that shrinks underflows, and its layer's backward turns BF16 for good."""
    narrow = BlockQuantizer(E2M1, UE4M3, block=16)
    gemm = replace(RECIPES["nvfp4_plain"].dgrad, lhs=narrow, rhs=narrow)
    recipe = replace(RECIPES["nvfp4_plain"], dgrad=gemm, wgrad=gemm, schedule=NoiseSwitch())
    kept: list[list[str]] = []
    losses = train(recipe, 30, kept.append, shrink=2.0**10)
    assert kept == [[FULL] * 2] * 30
    assert losses[-1] < 0.6 * losses[0]
    switched: list[list[str]] = []
    losses = train(recipe, 30, switched.append, shrink=2.0**-10)
    # at first nothing at all reaches the first layer, so that it has nothing to judge by
    assert switched == [[FULL, FULL], [FULL, FORWARD]] + [[FORWARD, FORWARD]] * 28
    assert losses[-1] < 0.6 * losses[0]


def test_one_layer_may_switch_alone() -> None:
    narrow = BlockQuantizer(E2M1, UE4M3, block=16)
    recipe = replace(RECIPES["bf16"], schedule=NoiseSwitch())
    recipe = replace(recipe, dgrad=replace(recipe.dgrad, lhs=narrow))
    model, x, _ = model_and_data(recipe)
    with torch.no_grad():
        quantized_layers(model)[1].weight.mul_(2.0**-20)  # so that little gradient reaches the first layer
    for step in range(3):
        set_clock(model, 0, step, 30)
        model(x).backward(normal(64, 8, seed=SEED + 3))
    assert [layer.phase for layer in quantized_layers(model)] == [FORWARD, FULL]


def test_the_watch_is_part_of_a_checkpoint() -> None:
    recipe = replace(RECIPES["mxfp4"], schedule=NoiseSwitch())
    model, x, y = model_and_data(recipe)
    results(model, x, y)
    again, _, _ = model_and_data(recipe)
    again.load_state_dict(copy.deepcopy(model.state_dict()))
    for a, b in zip(quantized_layers(model), quantized_layers(again), strict=True):
        assert torch.equal(a.watch, b.watch)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("last_stage", LastStage(0.25)), ("forward_only", ForwardOnly(0.18)), ("noise_switch", NoiseSwitch(2.0))],
)
def test_written_as_data_and_back(name: str, schedule: Schedule) -> None:
    data = to_data(replace(RECIPES["mxfp4"], schedule=schedule))["schedule"]
    assert from_data(Recipe, "schedule", data, "schedule") == schedule
    plain = SCHEDULES[name]()
    assert to_data(plain) == (name if plain.arithmetic == 1 else {name: {"arithmetic": plain.arithmetic}})
    assert schedule.ops().why
    assert schedule.watches == (name == "noise_switch")


def test_every_schedule_is_tried() -> None:
    assert list(SCHEDULES) == ["last_stage", "forward_only", "noise_switch", "switch"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: LastStage(0.0),
        lambda: LastStage(1.1),
        lambda: ForwardOnly(-0.1),
        lambda: ForwardOnly(math.nan),
        lambda: NoiseSwitch(0.0),
    ],
)
def test_values_out_of_range_are_refused(wrong: Callable[[], Schedule]) -> None:
    with pytest.raises(OptionError):
        wrong()


def test_a_recipe_switches_to_another_by_name() -> None:
    """In a sweep's words: another recipe's GEMMs from a step on, or for a share; part of the identity, written out."""
    mine = apply_settings(RECIPES["tetrajet_q_ramping"], [("schedule", {"switch": {"to": "mxfp8", "step": 3}})])
    assert isinstance(mine.schedule, Switch)
    assert [mine.schedule.phase(n, 5, None, FULL) for n in range(5)] == [FULL] * 3 + [SWITCHED] * 2
    assert Switch(share=0.4).phase(2, 5, None, FULL) == FULL
    assert Switch(share=0.4).phase(3, 5, None, FULL) == SWITCHED
    assert from_data(Recipe, "schedule", to_data(mine)["schedule"], "schedule") == mine.schedule
    later, other = in_phase(mine, SWITCHED), RECIPES["mxfp8"]
    assert (later.fprop, later.dgrad, later.wgrad) == (other.fprop, other.dgrad, other.wgrad)
    assert (later.backward_source, later.weights) == ("original", None)
    layer = nn.Sequential(nn.Linear(32, 32))
    same = copy.deepcopy(layer)
    quantize_(layer, mine)
    quantize_(same, other)
    x = normal(4, 32)
    for step in (2, 3):
        set_clock(layer, 0, step, steps=5)
        set_clock(same, 0, step, steps=5)
        assert torch.equal(layer(x), same(x)) == (step == 3)
    for wrong in ({"to": "mxfp9"}, {"step": -1}, {"step": 2, "share": 0.5}):
        with pytest.raises(OptionError):
            apply_settings(RECIPES["mxfp4"], [("schedule", {"switch": wrong})])
