"""Q-EMA and OsciReset against slow scalar twins that share no code with them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from dse.nn.linear import QuantizedLinear
from dse.nn.quantize import quantize_
from dse.numerics.gemm import Gemm
from dse.numerics.techniques.rounding import AwayFromZero, TowardZero
from dse.numerics.techniques.weights import OsciReset, QEma
from dse.recipes import RECIPES
from tests.techniques.scalar_mx import (
    GRID,
    MX,
    NOW,
    NV,
    SEED,
    neighbors,
    normal,
    scalar_quantize,
    scalar_scale,
)


def scalar_q_ema(row: list[float], ema: list[float], size: int = 8) -> list[float]:
    out: list[float] = []
    for i in range(0, len(row), size):
        s = scalar_scale(row[i : i + size])
        for v, e in zip(row[i : i + size], ema[i : i + size], strict=True):
            lo, hi = neighbors(abs(v) / s)
            aligned = e / s if v > 0 else -e / s
            q = hi if abs(aligned - hi) <= abs(aligned - lo) else lo
            out.append(math.copysign(q * s, v))
    return out


def test_the_scalar_quantizer_is_the_quantizer() -> None:
    w = torch.cat([normal(40, 16), normal(8, 16).mul(4).round() / 4, torch.zeros(1, 16)])
    assert torch.equal(MX(w).values, torch.tensor([scalar_quantize(r) for r in w.tolist()]))


def test_q_ema_against_a_scalar_twin() -> None:
    w = normal(60, 16)
    w[:8] = w[:8].mul(4).round() / 4  # values on the grid, halfway, and zeros
    ema = w + 0.2 * normal(60, 16, seed=SEED + 1)
    ema[20:30] *= -1  # averages of the other sign
    ema[30:40] = ema[30:40].mul(8).round() / 8  # ties between the neighbors
    state = {"ema": ema, "steps": torch.tensor(10)}
    got = QEma().quantize(MX, w, state, NOW)
    expected = torch.tensor([scalar_q_ema(a, b) for a, b in zip(w.tolist(), ema.tolist(), strict=True)])
    assert got.alpha is None
    assert torch.equal(got.values, expected)
    assert not torch.equal(got.values, MX(w).values)


def test_q_ema_tie_goes_to_the_larger_magnitude_and_saturated_values_stay() -> None:
    w = torch.tensor([[6.0, 2.2, -2.2, 2.2, 0.1, -0.1, 0.1, 7.0]])
    ema = torch.tensor([[0.0, 2.5, -2.5, 2.49, 0.25, -0.25, 0.24, 0.0]])
    floor = replace(MX, scale_rounding=TowardZero(), constant=4.0)  # scale 1: 7 saturates at 6
    got = QEma(warmup=0).quantize(floor, w, QEma().state(w) | {"ema": ema}, NOW)
    assert got.values.tolist() == [[6.0, 3.0, -3.0, 2.0, 0.5, -0.5, 0.0, 6.0]]


def test_q_ema_with_a_tensor_scale_takes_the_nearer_neighbor() -> None:
    w = normal(50, 32)
    ema = w + 0.1 * normal(50, 32, seed=SEED + 2)
    got = QEma(warmup=0).quantize(NV, w, {"ema": ema, "steps": torch.tensor(0)}, NOW)
    lo, hi = (replace(NV, rounding=r)(w, NOW) for r in (TowardZero(), AwayFromZero()))
    assert torch.equal(got.alpha, NV(w, NOW).alpha)  # type: ignore[arg-type]
    to_lo, to_hi = ((q.values.double() * q.alpha.double() - ema.double()).abs() for q in (lo, hi))  # type: ignore[union-attr]
    clear = (to_lo - to_hi).abs() > 1e-6
    assert clear.float().mean() > 0.9
    assert torch.equal(got.values[clear], torch.where(to_hi < to_lo, hi.values, lo.values)[clear])
    assert ((got.values == lo.values) | (got.values == hi.values)).all()


def test_q_ema_averages_after_every_step_and_waits_for_its_warmup() -> None:
    rule, w = QEma(decay=0.9, warmup=3), normal(2, 8)
    state = rule.state(w)
    average = w[1, 5].item()
    for step in range(4):
        waiting = torch.equal(rule.quantize(MX, w, state, NOW).values, MX(w).values)
        assert waiting == (step < 3)
        w = w + normal(2, 8, seed=step)
        rule.before_step(MX, w, state, NOW)
        rule.after_step(MX, w, state, NOW)
        average = 0.9 * average + 0.1 * w[1, 5].item()
        assert state["ema"][1, 5].item() == pytest.approx(average, rel=1e-5, abs=1e-6)
    assert not torch.equal(rule.quantize(MX, w, state, NOW).values, MX(w).values)


def scalar_osci_reset(path: list[list[float]], rule: OsciReset) -> list[list[float]]:
    """Weights of one row after every step, when ``path`` holds the change that the optimizer makes in each."""
    w, out = list(path[0]), []
    latent = quantized = [0.0] * len(w)
    for n, change in enumerate(path[1:]):
        before, w = w, [a + b for a, b in zip(w, change, strict=True)]
        position = (n - rule.start) % rule.every
        if n >= rule.start and position < rule.track:
            if position == 0:
                latent, quantized = [0.0] * len(w), [0.0] * len(w)
            qa, qb = scalar_quantize(w), scalar_quantize(before)
            latent = [d + abs(a - b) for d, a, b in zip(latent, w, before, strict=True)]
            quantized = [d + abs(a - b) for d, a, b in zip(quantized, qa, qb, strict=True)]
            if position == rule.track - 1:
                oscillates = [dw > 0 and dq / dw >= rule.ratio for dw, dq in zip(latent, quantized, strict=True)]
                w = [q if o else v for q, o, v in zip(qa, oscillates, w, strict=True)]
        out.append(list(w))
    return out


@pytest.mark.parametrize("track", [5, 7], ids=["part of a period", "all of it, as ALTO"])
def test_osci_reset_against_a_scalar_twin(track: int) -> None:
    rule = OsciReset(every=7, track=track, ratio=3.0, start=4)
    rows, steps = 6, 30
    changes = 2.0**-8 * normal(steps, rows, 16).mul(8).round()  # exact sums, so that the twin agrees bit for bit
    w = (normal(rows, 16, seed=SEED + 3).mul(2).round() / 2 + 2.0**-8).contiguous()  # near grid midpoints
    w[:, 8:] = w[:, 8:] * 0.5 + 0.25
    expected = [
        scalar_osci_reset([w[r].tolist(), *changes[:, r].tolist()], rule) for r in range(rows)
    ]  # [row][step][column]
    state = rule.state(w)
    resets = 0
    for n in range(steps):
        rule.before_step(MX, w, state, NOW)
        moved = w + changes[n]
        w.copy_(moved)
        rule.after_step(MX, w, state, NOW)
        resets += int((w != moved).sum())
        assert torch.equal(w, torch.tensor([expected[r][n] for r in range(rows)])), n
        assert torch.equal(w, moved) or (n - 3 - track) % 7 == 0
    assert resets > 5


def test_osci_reset_leaves_a_weight_that_did_not_move() -> None:
    """Its quantized value moves, because a neighbor changes the scale of their block, but it does not oscillate."""
    rule = OsciReset(every=4, track=1, ratio=1e-6)
    w = torch.tensor([[6.0, 0.7, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]])
    state = rule.state(w)
    rule.before_step(MX, w, state, NOW)
    w[0, 0] = 7.1
    rule.after_step(MX, w, state, NOW)
    assert (state["quantized"][0, 1:] > 0).all()
    assert w[0, 1:].tolist() == torch.tensor([0.7, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]).tolist()
    assert w[0, 0] == 8.0


def test_the_forward_pass_and_the_forward_copy_see_the_rule() -> None:
    """Y = Q(X) Q_ema(W)^T, and with double quantization dX = G Q_ema(W)."""
    recipe = replace(RECIPES["fp32"], fprop=Gemm(MX, MX), backward_source="forward", weights=QEma(decay=0.5, warmup=0))
    torch.manual_seed(SEED)
    model = quantize_(nn.Sequential(nn.Linear(16, 8, bias=False)), recipe)
    layer = model[0]  # type: ignore[index]
    assert isinstance(layer, QuantizedLinear)
    layer.state["ema"].add_(0.1 * normal(8, 16))
    x = normal(4, 16).requires_grad_()
    y = model(x)
    w = torch.tensor(
        [scalar_q_ema(a, b) for a, b in zip(layer.weight.tolist(), layer.state["ema"].tolist(), strict=True)]
    )
    assert torch.allclose(y, MX(x.detach()).values @ w.mT, atol=1e-6)
    g = normal(4, 8, seed=SEED + 8)
    y.backward(g)
    assert torch.allclose(x.grad, g @ w, atol=1e-6)  # type: ignore[arg-type]
    assert not torch.equal(w, MX(layer.weight.detach()).values)


def test_the_scalar_twin_knows_every_tie() -> None:
    ties = [(a + b) / 2 for a, b in itertools.pairwise(GRID)]
    w = torch.tensor([[6.0, *ties]])
    assert MX(w).values.tolist() == [scalar_quantize(w[0].tolist())] == [[6.0, 0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]]
