"""Weight rules against slow scalar twins that share no code with them, and trained end to end."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from dse.block import BlockQuantizer
from dse.errors import OptionError
from dse.formats import E2M1, E8M0, UE4M3
from dse.gemm import Gemm
from dse.linear import QuantizedLinear, after_step, before_step, quantize_, quantized_layers, set_clock
from dse.quantizer import BFloat16
from dse.random import Key, key
from dse.recipe import Recipe
from dse.recipes import RECIPES
from dse.registry import from_data, to_data
from dse.techniques.choices import FourOverSix
from dse.techniques.rounding import Stochastic, TowardZero, Up
from dse.techniques.tensor_scales import Current, Delayed
from dse.techniques.weights import WEIGHT_RULES, OsciReset, QEma, QRamping, WeightRule
from dse.techniques.weights.movement import movement

SEED = 20260
MX = BlockQuantizer(E2M1, E8M0, block=8, scale_rounding=Up())  # scale 2^ceil(log2(amax / 6))
NV = BlockQuantizer(E2M1, UE4M3, block=8, tensor_scale=Current())
GRID = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
NOW = key(seed=1, step=3, point=1)


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)


def normal(*shape: int, seed: int = SEED) -> Tensor:
    print("seed", seed)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------------------------- scalar arithmetic of MX
def scalar_scale(block: list[float]) -> float:
    top = max(abs(v) for v in block)
    if top == 0:
        return 1.0
    exponent = -149
    while 6.0 * 2.0**exponent < top:
        exponent += 1
    return 2.0**exponent


def neighbors(u: float) -> tuple[float, float]:
    """The grid values below and above a magnitude u <= 6."""
    return max(g for g in GRID if g <= u), min(g for g in GRID if g >= u)


def scalar_nearest(u: float) -> float:
    lo, hi = neighbors(u)
    if u - lo != hi - u:
        return lo if u - lo < hi - u else hi
    return lo if GRID.index(lo) % 2 == 0 else hi  # the even code


def scalar_quantize(row: list[float], size: int = 8) -> list[float]:
    out: list[float] = []
    for i in range(0, len(row), size):
        s = scalar_scale(row[i : i + size])
        out += [math.copysign(scalar_nearest(abs(v) / s) * s, v) for v in row[i : i + size]]
    return out


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


# ---------------------------------------------------------------------------------------------------------- Q-EMA
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
    lo, hi = (replace(NV, rounding=r)(w, NOW) for r in (TowardZero(), Up()))
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


# ------------------------------------------------------------------------------------------------------ OsciReset
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


def test_osci_reset_against_a_scalar_twin() -> None:
    rule = OsciReset(every=7, track=5, ratio=3.0, start=4)
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
        assert torch.equal(w, moved) or n in (8, 15, 22, 29)
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


# ------------------------------------------------------------------------------------------------------ Q-Ramping
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


# --------------------------------------------------------------------------------------------- what all must fulfil
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
    assert to_data(WEIGHT_RULES[name]()) == name
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
