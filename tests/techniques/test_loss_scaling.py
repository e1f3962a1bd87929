"""Loss scaling: the rule step by step, against torch's GradScaler, and in training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dse.block import BlockQuantizer
from dse.errors import OptionError
from dse.formats import E2M1, UE4M3
from dse.linear import after_step, before_step, quantize_, set_clock
from dse.recipe import Recipe
from dse.recipes import RECIPES
from dse.techniques.loss_scaling import LOSS_SCALINGS, Dynamic, LossScaling, Scaler, Static
from dse.techniques.loss_scaling.dynamic import LEAST
from dse.techniques.weights import QEma

SEED = 20264


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)


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
    scaler = Dynamic(init=16.0, every=3).start()
    factors = []
    for ok in [True, True, True, True, True, False, True, True, True, False, False]:
        scaler.update(ok)
        factors.append(scaler.factor)
    assert factors == [16, 16, 32, 32, 32, 16, 16, 16, 32, 16, 8]
    for _ in range(200):
        scaler.update(False)
    assert scaler.factor == LEAST


def test_the_dynamic_rule_is_grad_scaler_s() -> None:
    print("seed", SEED)
    generator = torch.Generator().manual_seed(SEED)
    bad = (torch.rand(400, generator=generator) < 0.05).tolist()
    theirs = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=7)
    ours = Dynamic(init=2.0**10, every=7).start()
    w, v = (nn.Parameter(torch.ones(4)) for _ in range(2))
    optimizers = [torch.optim.SGD([p], lr=1e-3, momentum=0.9) for p in (w, v)]
    for step, infinite in enumerate(bad):
        factor = torch.inf if infinite else float(step % 5)
        for optimizer in optimizers:
            optimizer.zero_grad()
        theirs.scale((w * factor).sum()).backward()  # type: ignore[no-untyped-call]
        theirs.step(optimizers[0])
        theirs.update()
        ours.scale((v * factor).sum()).backward()  # type: ignore[no-untyped-call]
        ok = ours.unscale_([v])
        assert ok != infinite
        if ok:
            optimizers[1].step()
        ours.update(ok)
        assert ours.factor == theirs.get_scale()
        assert torch.equal(v, w)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_bad_gradient_makes_a_bad_step(value: float) -> None:
    a, b, c = (nn.Parameter(torch.ones(3)) for _ in range(3))
    a.grad, b.grad = torch.full((3,), 8.0), torch.tensor([1.0, value, 1.0])
    assert not Dynamic(init=4.0).start().unscale_([a, b, c])
    assert a.grad.tolist() == [2.0, 2.0, 2.0]
    a.grad, b.grad = torch.full((3,), 8.0), torch.tensor([1.0, value, 1.0])
    assert Static(4.0).start().unscale_(iter([a, b, c]))  # used as it is
    assert a.grad.tolist() == [2.0, 2.0, 2.0]
    assert Dynamic().start().unscale_([])


def test_a_power_of_two_comes_off_without_rounding() -> None:
    w = nn.Parameter(normal(100))
    (w.sin().sum()).backward()  # type: ignore[no-untyped-call]
    plain = w.grad.clone()  # type: ignore[union-attr]
    for scaler in (Static().start(), Dynamic().start()):
        w.grad = None
        scaler.scale(w.sin().sum()).backward()  # type: ignore[no-untyped-call]
        assert scaler.unscale_([w])
        assert torch.equal(w.grad, plain)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", [Static(8.0), Dynamic(init=8.0, every=2)])
def test_a_checkpoint(how: LossScaling) -> None:
    scaler, again = how.start(), how.start()
    for ok in (True, True, True, False, True):
        scaler.update(ok)
    again.load_state_dict(copy.deepcopy(scaler.state_dict()))
    for ok in (True, True, False):
        scaler.update(ok)
        again.update(ok)
        assert again.factor == scaler.factor


# -------------------------------------------------------------------------------------------------------- training
def train(
    recipe: Recipe, how: LossScaling | None, overflow: int | None = None
) -> tuple[list[float], list[float], nn.Module]:
    """Losses, factors and the model after 30 steps, with a gradient that overflows at step ``overflow``."""
    torch.manual_seed(SEED)
    model = quantize_(nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 8)), recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    x, y = normal(64, 32), torch.tanh(normal(64, 32) @ normal(32, 8, seed=SEED + 1) / 4)
    scaler: Scaler | None = how.start() if how else None
    losses, factors = [], []
    for step in range(30):
        set_clock(model, 2, step, 30)
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean() * 1e-3  # small gradients
        if step == overflow:
            loss = loss * 1e38
        (scaler.scale(loss) if scaler else loss).backward()
        kept = copy.deepcopy(model.state_dict())
        ok = scaler.unscale_(model.parameters()) if scaler else True
        if ok:
            before_step(model)
            optimizer.step()
            after_step(model)
        else:
            assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
        if scaler:
            scaler.update(ok)
            factors.append(scaler.factor)
        losses.append(loss.item())
    return losses, factors, model


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
    losses, factors, model = train(replace(RECIPES["nvfp4"], weights=QEma()), Dynamic(every=10), overflow=5)
    assert factors == [2.0**16] * 5 + [2.0**15] * 10 + [2.0**16] * 10 + [2.0**17] * 5
    assert losses[-1] < 0.6 * losses[0]
    steps = [v for k, v in model.state_dict().items() if k.endswith("rule_steps")]
    assert [int(v) for v in steps] == [29, 29]


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
