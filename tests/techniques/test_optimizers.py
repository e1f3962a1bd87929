"""Stacked optimizers member by member against torch's own and a slow NumPy twin of Stable-SPAM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dse.errors import OptionError
from dse.optim import OPTIMIZERS, AdamW, Optimizer, StableSpam
from tests.techniques.stacked import BETA1, BETA2, DECAY, LAYOUT, LR, gradients, hyper, members, setting, train

SEED = 20263


def parts(flat: Tensor, e: int) -> list[Tensor]:
    return [view[e].clone() for view in LAYOUT.views(flat).values()]


# ------------------------------------------------------------------------------------------------------ torch.optim
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("spared", [False, True], ids=["all", "matrices"])
def test_every_member_is_trained_as_by_torch_optim(name: str, spared: bool, dtype: torch.dtype) -> None:
    """Four members with their own numbers, and rates that change from step to step, decay of matrices alone."""
    count, steps = 4, 40
    start, given = members(count, SEED, dtype), gradients(SEED, steps, count, dtype)
    p, optimizer = start.clone(), OPTIMIZERS[name]
    state, everybody = optimizer.state(p, LAYOUT), torch.ones(count, 1, dtype=torch.bool)
    for step, g in enumerate(given):
        now = hyper(count, step)
        now = now._replace(lr=now.lr * 0.99**step)
        g = g.clone()
        now = optimizer.decay(p, g, now, LAYOUT, everybody, LAYOUT.matrices()) if spared else now
        optimizer.update(p, g, state, now, LAYOUT, everybody)
    for e in range(count):
        own = [nn.Parameter(part) for part in parts(start, e)]
        lr, beta1, beta2, decay = (values[e % 3] for values in (LR, BETA1, BETA2, DECAY))
        groups = [
            {"params": [w for w in own if w.dim() >= 2 or not spared], "weight_decay": decay},
            {"params": [w for w in own if w.dim() < 2 and spared], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        twin: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2))
        if name == "sgd":
            twin = torch.optim.SGD(groups, lr=lr, momentum=beta1)
        for step, g in enumerate(given):
            for group in twin.param_groups:
                group["lr"] = setting(LR, count)[e, 0].item() * 0.99**step
            for parameter, gradient in zip(own, parts(g, e), strict=True):
                parameter.grad = gradient
            twin.step()
        close = 3e-6 if dtype == torch.float32 else 1e-13
        for got, expected in zip(parts(p, e), own, strict=True):
            torch.testing.assert_close(got, expected.detach(), rtol=close, atol=close)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_by_columns_gives_the_bits_of_decay_inside(name: str) -> None:
    count, everything = 3, [(0, LAYOUT.size)]
    start, optimizer = members(count, SEED, torch.float32), OPTIMIZERS[name]
    active = torch.tensor([[True], [False], [True]])
    inside, apart = start.clone(), start.clone()
    states = optimizer.state(inside, LAYOUT), optimizer.state(apart, LAYOUT)
    for step, g in enumerate(gradients(SEED, 5, count, torch.float32)):
        now = hyper(count, step)
        optimizer.update(inside, g.clone(), states[0], now, LAYOUT, active)
        now = optimizer.decay(apart, g, now, LAYOUT, active, everything)
        optimizer.update(apart, g, states[1], now, LAYOUT, active)
    assert torch.equal(inside, apart)
    assert torch.equal(apart[1], start[1])
    assert len(LAYOUT.matrices()) > 0
    assert not any(first <= LAYOUT.offsets[i] < end for first, end in LAYOUT.matrices()
                   for i, shape in enumerate(LAYOUT.shapes) if len(shape) < 2)  # fmt: skip


# ----------------------------------------------------------------------------------------------- Stable-SPAM's twin
@dataclass
class Twin:
    """Stable-SPAM on one tensor, element by element in double precision, counts written out."""

    how: StableSpam
    w: Any
    lr: float
    betas: tuple[float, float]
    decay: float
    statistics: list[list[float]] = field(default_factory=list)

    def run(self, gradients: list[Any]) -> Any:
        how = self.how
        beta1, beta2 = self.betas
        top = norm = square = 0.0
        m, v = np.zeros_like(self.w), np.zeros_like(self.w)
        age = 0
        for t, gradient in enumerate(gradients, 1):
            age += 1
            correct = age if how.shared_count else t
            g = gradient.copy()
            peak = max(abs(x) for x in g.flat)
            top = how.theta * top + (1 - how.theta) * peak
            bound = top / (1 - how.theta**correct)
            for i in np.ndindex(g.shape):
                if abs(g[i]) > bound:
                    g[i] = g[i] / peak * bound
            size = sum(x * x for x in g.flat) ** 0.5
            norm = how.gamma1 * norm + (1 - how.gamma1) * size
            square = how.gamma2 * square + (1 - how.gamma2) * size**2
            share = norm / (1 - how.gamma1**correct) / ((square / (1 - how.gamma2**correct)) ** 0.5 + how.eps)
            if size > 0:
                g = g / size * share
            if how.reset and t % how.reset == 0:
                m, v, age = np.zeros_like(m), np.zeros_like(v), 1
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            self.w = self.w * (1 - self.lr * self.decay)
            self.w -= self.lr * (m / (1 - beta1**age)) / (np.sqrt(v / (1 - beta2**age)) + how.eps)
            self.statistics.append([bound, peak, share])
        return self.w


def spiky(steps: int, count: int = 2) -> list[Tensor]:
    """Gradients with spikes, a step of zeros, and one of another size: float64."""
    out = gradients(SEED, steps, count, torch.float64)
    out[4][:, 11] = 50.0
    out[9] *= 100
    out[12].zero_()
    return out


@pytest.mark.parametrize(
    "how",
    [
        StableSpam(),
        StableSpam(reset=7),
        StableSpam(reset=7, shared_count=True),
        StableSpam(theta=0.9, gamma1=0.5, gamma2=0.99, reset=1),
    ],
    ids=["default", "reset", "shared", "other"],
)
def test_stable_spam_against_a_slow_twin(how: StableSpam) -> None:
    given, start = spiky(30), members(2, SEED, torch.float64)
    got, _ = train(how, start, given)
    for e in range(2):
        clipped = False
        for i, part in enumerate(parts(got, e)):
            twin = Twin(how, parts(start, e)[i].numpy(), LR[e], (BETA1[e], BETA2[e]), DECAY[e])
            expected = twin.run([parts(g, e)[i].numpy() for g in given])
            assert np.allclose(part.numpy(), expected, rtol=1e-10, atol=1e-12)
            clipped |= any(bound < peak for bound, peak, _ in twin.statistics)
        assert clipped


def test_clipping_survives_a_reset_unless_the_count_is_shared() -> None:
    """The bound of step 17, the fourth since the reset at step 14, under both counts."""
    bounds = {}
    for shared in (False, True):
        twin = Twin(StableSpam(reset=14, shared_count=shared), np.zeros((5, 7)), 0.01, (0.9, 0.95), 0.1)
        twin.run([parts(g, 0)[0].numpy() for g in spiky(30)])
        bounds[shared] = twin.statistics[16][0]
    assert bounds[True] / bounds[False] == pytest.approx((1 - 0.999**17) / (1 - 0.999**4))


def test_a_spike_moves_stable_spam_less_than_adamw() -> None:
    given, start = gradients(SEED, 20, 1), members(1, SEED)
    given[15] = given[15] * 1e4

    def moved(optimizer: Optimizer) -> float:
        with_it, without = (train(optimizer, start, g)[0] for g in (given, [*given[:15], *given[16:]]))
        return float((with_it - without).norm())

    assert moved(StableSpam()) < 0.5 * moved(AdamW())


# --------------------------------------------------------------------------------------------------------- training
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_training_and_a_checkpoint(name: str) -> None:
    """Three members fit w and u to targets of their own; resumed half way, they go the same way."""
    target, optimizer = members(3, SEED + 1), OPTIMIZERS[name]
    lr = (0.1, 0.05, 0.1) if name == "sgd" else (0.05, 0.1, 0.1)

    def run(p: Tensor, state: dict[str, Tensor], span: range) -> list[float]:
        losses = []
        for step in span:
            views = {k: v.requires_grad_() for k, v in LAYOUT.views(p.detach()).items()}
            goals = LAYOUT.views(target)
            per_member = torch.stack([(views[k] - goals[k]).reshape(3, -1).square().sum(1) for k in views]).sum(0)
            g = LAYOUT.join(torch.autograd.grad(per_member.sum(), list(views.values())))
            now = hyper(3, step, lr, (0.0,))._replace(matrix_lr=torch.full((3, 1), 0.3, dtype=torch.float64))
            optimizer.update(p, g, state, now, LAYOUT, torch.ones(3, 1, dtype=torch.bool))
            losses += per_member.tolist()
        return losses

    p = members(3, SEED)
    state = optimizer.state(p, LAYOUT)
    first = run(p, state, range(30))
    kept, saved = p.clone(), {k: v.clone() for k, v in state.items()}
    rest = run(p, state, range(30, 60))
    assert all(rest[-3 + e] < 0.1 * first[e] for e in range(3))
    assert run(kept, saved, range(30, 60)) == rest


def test_every_optimizer_states_its_cost() -> None:
    assert list(OPTIMIZERS) == ["adamw", "sgd", "stable_spam", "muon", "muon_spectral", "muon_nvfp4"]
    assert OPTIMIZERS["stable_spam"].ops().element == 8
    assert all(o.ops().why for o in OPTIMIZERS.values())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: StableSpam(theta=1.0),
        lambda: StableSpam(gamma1=-0.1),
        lambda: StableSpam(gamma2=1.5),
        lambda: StableSpam(eps=0.0),
        lambda: StableSpam(reset=-1),
    ],
)
def test_values_out_of_range_are_refused(wrong: Callable[[], StableSpam]) -> None:
    with pytest.raises(OptionError):
        wrong()
