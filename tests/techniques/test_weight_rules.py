"""What all weight rules must fulfil: training, checkpoints, packs, tensor scales, and refusals."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dse.errors import OptionError
from dse.nn.quantize import after_step, before_step, quantize_, quantized_layers, set_clock
from dse.numerics.block import BlockQuantizer
from dse.numerics.quantizer import BFloat16
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe
from dse.numerics.registry import from_data, to_data
from dse.numerics.techniques.choices import FourOverSix
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.tensor_scales import Delayed
from dse.numerics.techniques.weights import WEIGHT_RULES, OsciReset, QEma, QRamping, WeightRule
from dse.numerics.techniques.weights.movement import movement
from dse.recipes import RECIPES
from tests.techniques.scalar_mx import (
    MX,
    NOW,
    NV,
    SEED,
    normal,
)

RULES: dict[str, WeightRule] = {
    "q_ema": QEma(decay=0.9, warmup=4),
    "q_ramping": QRamping(every=12, track=6, k1=2.0, k2=2),
    "osci_reset": OsciReset(every=8, track=4, ratio=2.0, start=2),
}
each = pytest.mark.parametrize("name", list(RULES))


def test_every_rule_is_tried() -> None:
    assert list(RULES) == list(WEIGHT_RULES)


def model_and_data(recipe: Recipe) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(SEED)
    model = quantize_(nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 8)), recipe)
    x = normal(64, 32)
    return model, x, torch.tanh(x @ normal(32, 8, seed=SEED + 6) / 4)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, span: range) -> list[float]:
    losses = []
    for step in span:
        set_clock(model, 7, step, 30)
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        before_step(model)
        optimizer.step()
        after_step(model)
        losses.append(loss.item())
    return losses


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.01)


@each
@pytest.mark.parametrize("base", ["mxfp4", "nvfp4"])
def test_training_with_a_rule(name: str, base: str) -> None:
    plain, ruled = (model_and_data(replace(RECIPES[base], weights=rule)) for rule in (None, RULES[name]))
    without = train(plain[0], adamw(plain[0]), *plain[1:], range(30))
    losses = train(ruled[0], adamw(ruled[0]), *ruled[1:], range(30))
    assert all(math.isfinite(v) for v in losses)
    assert losses[-1] < 0.5 * losses[0]
    assert losses[:4] == without[:4]
    assert losses != without  # the rule has an effect


@each
def test_a_checkpoint_keeps_the_rule(name: str) -> None:
    recipe = replace(RECIPES["mxfp4"], weights=RULES[name])
    model, x, y = model_and_data(recipe)
    optimizer = adamw(model)
    train(model, optimizer, x, y, range(15))
    kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    buffers = [k for k in kept[0] if ".rule_" in k]
    assert len(buffers) == 2 * len(RULES[name].state(torch.zeros(1, 1)))
    rest = train(model, optimizer, x, y, range(15, 30))
    again, _, _ = model_and_data(recipe)
    resumed = adamw(again)
    again.load_state_dict(kept[0])
    resumed.load_state_dict(kept[1])
    assert train(again, resumed, x, y, range(15, 30)) == rest
    for k, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[k]), k


@each
@pytest.mark.parametrize("quantizer", [MX, NV, replace(MX, tile=4)], ids=["mx", "nv", "tiles"])
def test_members_of_a_pack_equal_their_solo_results(name: str, quantizer: BlockQuantizer) -> None:
    rule, members, steps = RULES[name], 3, 20
    start, changes = normal(members, 4, 16), 0.05 * normal(steps, members, 4, 16, seed=SEED + 7)
    clock = torch.tensor([[5, 0], [6, 0], [7, 0]])

    def run(w: Tensor, changes: Tensor, clock: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Plain gradient descent under the rule; members begin at different steps of their period."""
        leading = w.shape[:-2]
        w = w.clone().requires_grad_()
        state = {k: v.expand(leading + v.shape).clone() for k, v in rule.state(w[(0,) * len(leading)].detach()).items()}
        state["steps"] += offsets
        if "ema" in state:
            state["ema"].copy_(w.detach())
        for step in range(steps):
            k = Key(clock + torch.tensor([0, step]), 0, 1)
            w.grad = changes[step].clone()
            rule.before_step(quantizer, w, state, k)
            with torch.no_grad():
                w -= w.grad
            rule.after_step(quantizer, w, state, k)
        return w.detach(), rule.quantize(quantizer, w.detach(), state, k).dequantize(), state

    offsets = torch.tensor([0, 3, 7])
    packed = run(start, changes, clock, offsets)
    for i in range(members):
        solo = run(start[i], changes[:, i], clock[i], offsets[i])
        assert torch.equal(packed[0][i], solo[0])
        assert torch.equal(packed[1][i], solo[1])
        for k, tensor in solo[2].items():
            assert torch.equal(packed[2][k][i], tensor), k


@each
def test_a_rule_reads_a_held_tensor_scale_and_leaves_it_alone(name: str) -> None:
    rule, quantizer = RULES[name], replace(NV, tensor_scale=Delayed(every=5, target=448.0))
    w = nn.Parameter(normal(4, 16))
    state, memory = rule.state(w.detach()), torch.zeros(6)
    for step in range(12):
        k = Key(torch.tensor([0, step]), 0, 1, memory=memory)
        quantizer(w.detach(), k)  # the forward pass samples
        held = memory.clone()
        rule.quantize(quantizer, w.detach(), state, k)
        w.grad = 0.1 * normal(4, 16, seed=step)
        rule.before_step(quantizer, w, state, k)
        with torch.no_grad():
            w -= w.grad
        rule.after_step(quantizer, w, state, k)
        assert torch.equal(memory, held)


def test_movement_is_measured_under_the_held_tensor_scale() -> None:
    """Also at a step where the forward pass would sample anew."""
    quantizer, held = replace(NV, tensor_scale=Delayed(every=1)), torch.full((6,), 5.0)
    before, after = normal(4, 16), 3 * normal(4, 16, seed=SEED + 9)
    k = Key(torch.tensor([0, 0]), 0, 1, memory=held)
    fixed = replace(k, sampling=False)
    move = movement(quantizer, before, after, k)
    assert torch.equal(held, torch.full((6,), 5.0))
    assert torch.equal(move.value, quantizer(after, fixed).dequantize())
    assert torch.equal(move.quantized, (move.value - quantizer(before, fixed).dequantize()).abs())
    assert torch.equal(move.latent, (after - before).abs())


@each
def test_weights_kept_in_bf16(name: str) -> None:
    """What a rule adds up is FP32, so that an average with 1 - b = .002 does not stand still."""
    torch.manual_seed(SEED)
    model = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 8)).bfloat16()
    quantize_(model, replace(RECIPES["mxfp4"], weights=RULES[name]))
    x = normal(64, 32)
    losses = train(model, adamw(model), x.bfloat16(), torch.tanh(x @ normal(32, 8, seed=SEED + 6) / 4), range(30))
    assert losses[-1] < 0.5 * losses[0]
    for layer in quantized_layers(model):
        assert layer.weight.dtype == torch.bfloat16
        assert torch.bfloat16 not in {t.dtype for t in layer.state.values()}


@each
def test_no_gradient_is_recorded_into_the_state(name: str) -> None:
    model, x, y = model_and_data(replace(RECIPES["mxfp4"], weights=RULES[name]))
    train(model, adamw(model), x, y, range(3))
    assert not any(t.requires_grad for layer in quantized_layers(model) for t in layer.state.values())


@each
def test_written_as_data_and_back(name: str) -> None:
    recipe = replace(RECIPES["mxfp4"], weights=RULES[name])
    assert from_data(Recipe, "weights", to_data(recipe)["weights"], "weights") == RULES[name]
    version = WEIGHT_RULES[name].arithmetic
    assert to_data(WEIGHT_RULES[name]()) == (name if version == 1 else {name: {"arithmetic": version}})
    cost = RULES[name].ops()
    assert cost.element > 0
    assert cost.why


@each
def test_meaningless_combinations_are_refused(name: str) -> None:
    rule = RULES[name]
    rule.check(MX, rotated=False)
    with pytest.raises(OptionError, match="block quantizer"):
        rule.check(BFloat16(), rotated=False)
    with pytest.raises(OptionError, match="rotation"):
        rule.check(MX, rotated=True)


@pytest.mark.parametrize(
    ("quantizer", "word"),
    [
        (replace(MX, rounding=Stochastic()), "stochastic"),
        (replace(NV, choice=FourOverSix()), "choice"),
        (replace(MX, scale_gradient="full"), "scale_gradient"),
    ],
)
def test_q_ema_refuses_what_it_would_override(quantizer: BlockQuantizer, word: str) -> None:
    with pytest.raises(OptionError, match=word):
        QEma().check(quantizer, rotated=False)
    with pytest.raises(OptionError, match=word):
        QEma().quantize(quantizer, normal(2, 8), QEma().state(normal(2, 8)), NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: QEma(decay=1.0),
        lambda: QEma(warmup=-1),
        lambda: OsciReset(track=0),
        lambda: OsciReset(every=10, track=11),
        lambda: OsciReset(ratio=0.0),
        lambda: OsciReset(start=-1),
        lambda: QRamping(every=30, track=30),
        lambda: QRamping(k1=0.0),
        lambda: QRamping(k2=0),
    ],
)
def test_values_out_of_range_are_refused(wrong: Callable[[], WeightRule]) -> None:
    with pytest.raises(OptionError):
        wrong()
