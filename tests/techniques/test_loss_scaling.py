"""Loss scaling: the rule step by step, against torch's GradScaler, and in training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dse.errors import OptionError
from dse.nn.quantize import quantize_, set_clock
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.recipe import Recipe
from dse.optim import AdamW, Hyper
from dse.optim.layout import Layout
from dse.optim.loss_scaling import LOSS_SCALINGS, Dynamic, LossScaling, Static
from dse.optim.loss_scaling.dynamic import LEAST
from dse.recipes import RECIPES
from tests.techniques.stacked import same

SEED = 20264


def normal(*shape: int, seed: int = SEED) -> Tensor:
    print("seed", seed)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_registry() -> None:
    assert list(LOSS_SCALINGS) == ["none", "static", "dynamic"]
    assert LOSS_SCALINGS["none"] is None
    assert Dynamic() == Dynamic(init=2.0**16, growth=2.0, backoff=0.5, every=2000)
    for how in LOSS_SCALINGS.values():
        assert how is None or how().ops().why


def test_the_dynamic_rule_step_by_step() -> None:
    """Member 0 as written out, member 1 always good, member 2 always bad."""
    scaling = Dynamic(init=16.0, every=3)
    state = scaling.state(3, "cpu")
    factors = []
    for ok in [True, True, True, True, True, False, True, True, True, False, False]:
        scaling.update(state, torch.tensor([ok, True, False]))
        factors.append(scaling.factor(state).tolist())
    assert [f[0] for f in factors] == [16, 16, 32, 32, 32, 16, 16, 16, 32, 16, 8]
    assert [f[1] for f in factors] == [16, 16, 32, 32, 32, 64, 64, 64, 128, 128, 128]
    assert [f[2] for f in factors] == [2.0 ** (3 - n) for n in range(11)]
    for _ in range(600):
        scaling.update(state, torch.tensor([False, True, False]))
    assert scaling.factor(state).tolist() == [LEAST, 2.0**127, LEAST]


def test_the_dynamic_rule_is_grad_scaler_s_for_every_member() -> None:
    print("seed", SEED)
    bad = torch.rand(300, 3, generator=torch.Generator().manual_seed(SEED)) < 0.05
    theirs = [torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=7) for _ in range(3)]
    twins = [nn.Parameter(torch.ones(4)) for _ in range(3)]
    optimizers = [torch.optim.SGD([w], lr=1e-3, momentum=0.9) for w in twins]
    ours = Dynamic(init=2.0**10, every=7)
    state = ours.state(3, "cpu")
    for step, infinite in enumerate(bad):
        slope = torch.where(infinite, torch.inf, float(step % 5))
        for w, scaler, optimizer, by in zip(twins, theirs, optimizers, slope, strict=True):
            optimizer.zero_grad()
            scaler.scale((w * by).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        v = torch.ones(3, 4, requires_grad=True)
        factor = ours.factor(state)
        (g,) = torch.autograd.grad(((v * slope[:, None]).sum(1) * factor).sum(), v)
        ok = ours.good(g * (1 / factor)[:, None])
        assert torch.equal(ok, ~infinite)
        ours.update(state, ok)
        assert ours.factor(state).tolist() == [scaler.get_scale() for scaler in theirs]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_bad_gradient_makes_a_bad_step_of_its_member(value: float) -> None:
    g = normal(4, 100)
    g[2, 57] = value
    assert Dynamic().good(g).tolist() == [True, True, False, True]
    assert Static().good(g).tolist() == [True] * 4  # used as it is
    assert Dynamic().good(torch.full((2, 8), 3e38)).all()  # large, and finite


@pytest.mark.parametrize("how", [Static(), Dynamic()])
def test_a_power_of_two_comes_off_without_rounding(how: LossScaling) -> None:
    w = normal(3, 100).requires_grad_()
    losses, factor = w.sin().sum(1), how.factor(how.state(3, "cpu"))
    (plain,) = torch.autograd.grad(losses.sum(), w, retain_graph=True)
    (scaled,) = torch.autograd.grad((losses * factor).sum(), w)
    assert same(scaled * (1 / factor)[:, None], plain)


@pytest.mark.parametrize("how", [Static(8.0), Dynamic(init=8.0, every=2)])
def test_a_checkpoint(how: LossScaling) -> None:
    state = how.state(2, "cpu")
    assert all(len(v) == 2 for v in state.values())
    for ok in (True, True, True, False, True):
        how.update(state, torch.tensor([ok, True]))
    again = {k: v.clone() for k, v in state.items()}
    for ok in (True, True, False):
        how.update(state, torch.tensor([ok, True]))
        how.update(again, torch.tensor([ok, True]))
        assert torch.equal(how.factor(again), how.factor(state))


@pytest.mark.parametrize("how", [Static(8.0), Dynamic(init=8.0, every=2)])
def test_nothing_waits_for_a_device(how: LossScaling) -> None:
    state = how.state(3, "meta")
    how.update(state, how.good(torch.empty(3, 10, device="meta")))
    assert how.factor(state).is_meta


# -------------------------------------------------------------------------------------------------------- training
def train(
    recipe: Recipe, how: LossScaling | None, overflow: int | None = None
) -> tuple[list[float], list[float], dict[str, Tensor]]:
    """Losses, factors and the optimizer's state after 30 steps, with a gradient that overflows at step ``overflow``."""
    torch.manual_seed(SEED)
    model = quantize_(nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 8)), recipe)
    layout, parameters = Layout.of(model.named_parameters()), list(model.parameters())
    flat = layout.join([p.detach()[None] for p in parameters])
    optimizer = AdamW()
    moments, state = optimizer.state(flat, layout), how.state(1, "cpu") if how else {}
    lr, beta1, beta2, decay = (torch.full((1, 1), x, dtype=torch.float64) for x in (0.01, 0.9, 0.999, 0.01))
    hyper = Hyper(lr, beta1, beta2, decay, torch.tensor(0), lr)
    x, y = normal(64, 32), torch.tanh(normal(64, 32) @ normal(32, 8, seed=SEED + 1) / 4)
    losses, factors = [], []
    for step in range(30):
        set_clock(model, 2, step, 30)
        with torch.no_grad():
            for p, view in zip(parameters, layout.views(flat).values(), strict=True):
                p.copy_(view[0])
        loss = (model(x) - y).square().mean() * 1e-3  # small gradients
        if step == overflow:
            loss = loss * 1e38
        factor = how.factor(state) if how else torch.ones(1)
        g = layout.join([g[None] for g in torch.autograd.grad(loss * factor[0], parameters)]) * (1 / factor)[:, None]
        ok = how.good(g) if how else torch.ones(1, dtype=torch.bool)
        kept = flat.clone()
        optimizer.update(flat, g, moments, hyper, layout, ok[:, None])
        assert same(flat, kept) != bool(ok)
        if how:
            how.update(state, ok)
            factors += how.factor(state).tolist()
        losses.append(loss.item())
    return losses, factors, moments


NARROW = BlockQuantizer(E2M1, UE4M3, block=16)  # no tensor scale: gradients below 2^-10 vanish
UNDERFLOWS = replace(
    RECIPES["nvfp4_plain"], **{g: replace(RECIPES["bf16"].dgrad, lhs=NARROW) for g in ("dgrad", "wgrad")}
)


@pytest.mark.parametrize("how", [Static(2.0**14), Dynamic(init=2.0**14, every=10)])
def test_loss_scaling_saves_gradients_that_vanish(how: LossScaling) -> None:
    without, _, _ = train(UNDERFLOWS, None)
    scaled, factors, _ = train(UNDERFLOWS, how)
    assert scaled[-1] < 0.6 * scaled[0]
    assert scaled[-1] < 0.8 * without[-1]
    expected = (
        [2.0**14] * 9 + [2.0**15] * 10 + [2.0**16] * 10 + [2.0**17] if isinstance(how, Dynamic) else [2.0**14] * 30
    )
    assert factors == expected


def test_a_step_that_overflows_is_skipped() -> None:
    losses, factors, moments = train(RECIPES["nvfp4"], Dynamic(every=10), overflow=5)
    assert factors == [2.0**16] * 5 + [2.0**15] * 10 + [2.0**16] * 10 + [2.0**17] * 5
    assert losses[-1] < 0.6 * losses[0]
    assert moments["powers"][0, 0].item() == pytest.approx(0.9**29)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Static(0.0),
        lambda: Dynamic(init=-1.0),
        lambda: Dynamic(growth=0.5),
        lambda: Dynamic(backoff=1.0),
        lambda: Dynamic(every=0),
    ],
)
def test_values_out_of_range_are_refused(wrong: Callable[[], LossScaling]) -> None:
    with pytest.raises(OptionError):
        wrong()
