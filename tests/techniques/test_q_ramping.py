"""Q-Ramping against a slow scalar twin that shares no code with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from dse.numerics.techniques.weights import QRamping
from tests.techniques.scalar_mx import (
    MX,
    NOW,
    SEED,
    normal,
    scalar_quantize,
)


@dataclass
class ScalarAdam:
    """Adam with decoupled weight decay for one number."""

    lr: float
    decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    m: float = 0.0
    v: float = 0.0
    t: int = 0

    def step(self, w: float, g: float) -> float:
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * g * g
        m, v = self.m / (1 - self.beta1**self.t), self.v / (1 - self.beta2**self.t)
        return w * (1 - self.lr * self.decay) - self.lr * m / (math.sqrt(v) + 1e-8)


@dataclass
class ScalarSGD:
    lr: float

    def step(self, w: float, g: float) -> float:
        return w - self.lr * g


def scalar_q_ramping(
    row: list[float], gradients: list[list[float]], rule: QRamping, make: Callable[[], ScalarAdam | ScalarSGD]
) -> tuple[list[list[float]], list[list[int]]]:
    """Weights and periods N of one row after every step."""
    size = len(row)
    optimizers = [make() for _ in range(size)]
    w, held, shown = list(row), [list[float]() for _ in range(size)], [0.0] * size
    period, latent, quantized = [1] * size, [0.0] * size, [0.0] * size
    weights, periods = [], []
    for n, gradient in enumerate(gradients):
        before = list(w)
        for i in range(size):
            held[i].append(gradient[i])
            due = len(held[i]) >= period[i]
            if due:
                shown[i] = sum(held[i]) / len(held[i])
            stepped = optimizers[i].step(w[i], shown[i])
            if due:
                w[i] = w[i] + len(held[i]) * (stepped - w[i])
                held[i] = []
        position = n % rule.every
        if position == 0:
            latent, quantized = [0.0] * size, [0.0] * size
        if position < rule.track:
            qa, qb = scalar_quantize(w), scalar_quantize(before)
            latent = [d + abs(a - b) for d, a, b in zip(latent, w, before, strict=True)]
            quantized = [d + abs(a - b) for d, a, b in zip(quantized, qa, qb, strict=True)]
        if position == rule.track - 1:
            ratio = [dq / dw if dw > 0 else 0.0 for dq, dw in zip(quantized, latent, strict=True)]
            period = [min(math.floor(r / rule.k1) * rule.k2 + 1, rule.every) for r in ratio]
        if position == rule.every - 1:
            period = [1] * size
        weights.append(list(w))
        periods.append(list(period))
    return weights, periods


def oscillating(rows: int, steps: int) -> tuple[Tensor, Tensor]:
    """Weights, half of them near midpoints of their grid, and gradients that mostly alternate: float64."""
    w = normal(rows, 16, seed=SEED + 4).double()
    w[:, 0], w[:, 8] = 6.0, -6.0  # fixes the scales at 1
    w[:, 1:8] = w[:, 1:8].mul(2).round() / 2 + 0.25
    flip = torch.tensor([(-1.0) ** n for n in range(steps)], dtype=torch.float64)[:, None, None]
    gradients = normal(steps, rows, 16, seed=SEED + 5).double() * 0.3 + flip
    gradients[:, :, 0] = gradients[:, :, 8] = 0.0
    return w, gradients


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_q_ramping_against_a_scalar_twin(kind: str) -> None:
    rule = QRamping(every=12, track=4, k1=4.0, k2=2)
    rows, steps, lr = 3, 40, 0.01
    start, gradients = oscillating(rows, steps)
    w = nn.Parameter(start.clone())
    optimizer: torch.optim.Optimizer
    if kind == "sgd":
        optimizer, make = torch.optim.SGD([w], lr=lr), lambda: ScalarSGD(lr)
    else:
        optimizer, make = (
            torch.optim.AdamW([w], lr=lr, betas=(0.9, 0.95), weight_decay=0.1),
            lambda: ScalarAdam(lr, 0.1),
        )
    state = rule.state(w.detach())
    twins = [scalar_q_ramping(start[r].tolist(), gradients[:, r].tolist(), rule, make) for r in range(rows)]
    seen = set()
    for n in range(steps):
        w.grad = gradients[n].clone()
        rule.before_step(MX, w, state, NOW)
        optimizer.step()
        rule.after_step(MX, w, state, NOW)
        expected = torch.tensor([weights[n] for weights, _ in twins], dtype=torch.float64)
        assert torch.allclose(w.detach(), expected, rtol=1e-12, atol=1e-12), n
        assert state["period"].tolist() == [periods[n] for _, periods in twins], n
        seen |= set(state["period"].flatten().tolist())
    assert {1, rule.every} < seen  # both ends, and something between


def test_q_ramping_with_sgd_is_the_sum_of_gradients_at_every_release() -> None:
    """The paper's semantics: held for N steps, then lr * N times the mean gradient."""
    rule, w = QRamping(every=100, track=1), nn.Parameter(torch.zeros(1, 8))
    state = rule.state(w.detach())
    state["period"].fill_(3)
    state["steps"].fill_(1)
    optimizer = torch.optim.SGD([w], lr=0.5)
    for n in range(1, 8):
        w.grad = torch.full((1, 8), float(n))
        rule.before_step(MX, w, state, NOW)
        optimizer.step()
        rule.after_step(MX, w, state, NOW)
        assert w[0, 0].item() == -0.5 * sum(range(1, n // 3 * 3 + 1))


def test_a_weight_with_period_one_is_trained_as_without_the_rule() -> None:
    rule = QRamping(every=20, track=4, k1=1e9)
    start, gradients = oscillating(3, 30)
    plain, ruled = (nn.Parameter(start.float().clone()) for _ in range(2))
    optimizers = [torch.optim.AdamW([p], lr=0.01, weight_decay=0.1) for p in (plain, ruled)]
    state = rule.state(ruled.detach())
    for n in range(30):
        plain.grad, ruled.grad = gradients[n].float(), gradients[n].float().clone()
        rule.before_step(MX, ruled, state, NOW)
        for optimizer in optimizers:
            optimizer.step()
        rule.after_step(MX, ruled, state, NOW)
        assert torch.equal(plain, ruled)


def test_q_ramping_leaves_a_weight_without_gradient_alone() -> None:
    rule, w = QRamping(), nn.Parameter(normal(2, 8))
    state, before = rule.state(w.detach()), w.detach().clone()
    rule.before_step(MX, w, state, NOW)
    rule.after_step(MX, w, state, NOW)
    assert torch.equal(w, before)
    assert state["count"].sum() == 0
