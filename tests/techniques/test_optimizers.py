"""Optimizers against torch's own and against a slow NumPy twin of Stable-SPAM."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dse.errors import OptionError
from dse.linear import after_step, before_step, quantize_, set_clock
from dse.recipes import RECIPES
from dse.techniques.optimizers import OPTIMIZERS, StableSpam

SEED = 20263


@dataclass(frozen=True)
class Settings:
    """The part of a training's settings that optimizers read."""

    lr: float = 0.01
    betas: Sequence[float] = (0.9, 0.95)
    weight_decay: float = 0.1


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)


def normal(*shape: int, seed: int = SEED) -> Tensor:
    print("seed", seed)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], gradients: list[Tensor]) -> Tensor:
    w = nn.Parameter(normal(*gradients[0].shape, seed=SEED + 1).to(gradients[0].dtype))
    optimizer = make([w])
    for g in gradients:
        w.grad = g.clone()
        optimizer.step()
    return w.detach()


def test_adamw_and_sgd_are_torch_s() -> None:
    gradients = [normal(4, 8, seed=s) for s in range(5)]
    s = Settings()
    betas = (0.9, 0.95)
    adamw = run(lambda p: OPTIMIZERS["adamw"](p, s), gradients)
    assert torch.equal(adamw, run(lambda p: torch.optim.AdamW(p, lr=0.01, betas=betas, weight_decay=0.1), gradients))
    sgd = run(lambda p: OPTIMIZERS["sgd"](p, s), gradients)
    assert torch.equal(sgd, run(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1), gradients))


# ----------------------------------------------------------------------------------------------- Stable-SPAM's twin
@dataclass
class Twin:
    """Stable-SPAM on one tensor, element by element in double precision, counts written out."""

    how: StableSpam
    settings: Settings
    w: Any
    statistics: list[list[float]] = field(default_factory=list)

    def run(self, gradients: list[Any]) -> Any:
        how, s = self.how, self.settings
        beta1, beta2 = s.betas
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
            self.w = self.w * (1 - s.lr * s.weight_decay)
            self.w -= s.lr * (m / (1 - beta1**age)) / (np.sqrt(v / (1 - beta2**age)) + how.eps)
            self.statistics.append([bound, peak, share])
        return self.w


def spiky(steps: int) -> list[Tensor]:
    """Gradients with spikes, a step of zeros, and one of another size: float64."""
    out = [normal(3, 5, seed=SEED + 10 + n).double() for n in range(steps)]
    out[4][1, 2] = 50.0
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
    gradients = spiky(30)
    twin = Twin(how, Settings(), normal(3, 5, seed=SEED + 1).double().numpy())
    expected = twin.run([g.numpy() for g in gradients])
    got = run(lambda p: how(p, Settings()), gradients)
    assert np.allclose(got.numpy(), expected, rtol=1e-10, atol=1e-12)
    assert any(bound < peak for bound, peak, _ in twin.statistics)  # something was clipped


def test_clipping_survives_a_reset_unless_the_count_is_shared() -> None:
    """The bound of step 17, the fourth since the reset at step 14, under both counts."""
    bounds = {}
    for shared in (False, True):
        twin = Twin(StableSpam(reset=14, shared_count=shared), Settings(), np.zeros((3, 5)))
        twin.run([g.numpy() for g in spiky(30)])
        bounds[shared] = twin.statistics[16][0]
    assert bounds[True] / bounds[False] == pytest.approx((1 - 0.999**17) / (1 - 0.999**4))


def test_a_spike_moves_stable_spam_less_than_adamw() -> None:
    gradients = [normal(20, 20, seed=n) for n in range(20)]
    gradients[15] = gradients[15] * 1e4

    def moved(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> float:
        return (run(make, gradients) - run(make, [*gradients[:15], *gradients[16:]])).norm().item()

    s = Settings(weight_decay=0.0)
    assert moved(lambda p: OPTIMIZERS["stable_spam"](p, s)) < 0.5 * moved(lambda p: OPTIMIZERS["adamw"](p, s))


def test_gradients_are_left_alone_and_missing_ones_skipped() -> None:
    a, b = nn.Parameter(normal(3)), nn.Parameter(normal(3))
    before = b.detach().clone()
    optimizer = OPTIMIZERS["stable_spam"]([a, b], Settings())
    a.grad = normal(3) * 10
    for _ in range(2):
        optimizer.step()
    assert torch.equal(a.grad, normal(3) * 10)
    assert torch.equal(b, before)
    assert b not in optimizer.state
    assert optimizer.step(lambda: 3.0) == 3.0  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_training_and_a_checkpoint(name: str) -> None:
    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(SEED)
        model = quantize_(nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 8)), RECIPES["nvfp4"])
        return model, OPTIMIZERS[name](model.parameters(), Settings(lr=0.2 if name == "sgd" else 0.01))

    x, y = normal(64, 32), torch.tanh(normal(64, 32) @ normal(32, 8, seed=SEED + 2) / 4)

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, span: range) -> list[float]:
        losses = []
        for step in span:
            set_clock(model, 1, step, 30)
            optimizer.param_groups[0]["lr"] *= 0.99
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            before_step(model)
            optimizer.step()
            after_step(model)
            losses.append(loss.item())
        return losses

    model, optimizer = build()
    first = train(model, optimizer, range(15))
    kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    rest = train(model, optimizer, range(15, 30))
    assert rest[-1] < 0.6 * first[0]
    again, resumed = build()
    again.load_state_dict(kept[0])
    resumed.load_state_dict(kept[1])
    assert train(again, resumed, range(15, 30)) == rest


def test_a_reset_is_counted_across_a_checkpoint() -> None:
    gradients = spiky(20)
    how = StableSpam(reset=8)

    def resumed(p: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Saves and loads before every step."""
        optimizer = how(p, Settings())
        step = optimizer.step

        def again(*args: Any) -> Any:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            return step(*args)

        optimizer.step = again  # type: ignore[method-assign]
        return optimizer

    assert torch.equal(run(resumed, gradients), run(lambda p: how(p, Settings()), gradients))


def test_every_optimizer_states_its_cost() -> None:
    assert list(OPTIMIZERS) == ["adamw", "sgd", "stable_spam"]
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
