"""Steps that ``torch.amp.GradScaler`` skips: what a quantized model keeps between steps stays as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from dse.nn.quantize import after_step, before_step, quantize_, quantized_layers, set_clock
from dse.numerics.recipe import Recipe, override
from dse.recipes import RECIPES
from tests.quantizers import normal

HELD = override(RECIPES["ue5m3"], "*.tensor_scale", {"delayed": {"every": 2}})
KEPT = {
    "held scales": HELD,
    "held scales and q_ema": override(HELD, "weights", "q_ema"),
    "q_ema": override(RECIPES["tetrajet"], "weights", {"q_ema": {"warmup": 0}}),
    "q_ramping": override(RECIPES["tetrajet"], "weights", {"q_ramping": {"every": 4, "track": 2}}),
    "osci_reset": override(RECIPES["tetrajet2_base"], "weights", {"osci_reset": {"every": 3, "track": 2}}),
    "noise switch": RECIPES["fp4_all_the_way_qaf"],
}


def model(recipe: Recipe | None) -> nn.Module:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8))
    return plain if recipe is None else quantize_(plain, recipe)


def training(m: nn.Module, steps: int, overflows: tuple[int, ...] = (), rules: bool = True) -> Iterator[int]:
    """Yields after every step; the gradients of those in ``overflows`` are infinite, and ``GradScaler`` skips them."""
    optimizer, scaler = torch.optim.AdamW(m.parameters(), 1e-3), torch.amp.GradScaler("cpu", init_scale=8.0)
    x, t = normal(64, 32), normal(64, 8, seed=1)
    for step in range(steps):
        set_clock(m, 0, step, steps)
        optimizer.zero_grad()
        y = m(x)
        if step in overflows:
            y.register_hook(lambda g: g.index_fill(0, torch.tensor(3), torch.inf))
        scaler.scale((y - t).square().mean()).backward()
        scaler.unscale_(optimizer)
        if rules:
            before_step(m)
        scaler.step(optimizer)
        scaler.update()
        if rules:
            after_step(m)
        yield step


def kept(m: nn.Module) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in m.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that differ."""
    return [name for name in a if not torch.equal(a[name].nan_to_num(7), b[name].nan_to_num(7))]


@pytest.mark.parametrize("what", KEPT)
def test_a_skipped_step_leaves_every_state_as_it_was(what: str) -> None:
    """The first step, one at which scales are sampled, and two in a row."""
    m = model(KEPT[what])
    before, moved = kept(m), set[str]()
    for step in training(m, 8, overflows=(0, 4, 5)):
        now = kept(m)
        if step in (0, 4, 5):
            assert equal(before, now) == [], step
        else:
            moved.update(equal(before, now))
        before = now
    assert all(t.isfinite().all() for name, t in before.items() if not name.endswith("watch"))
    assert {name.split(".")[-1] for name in moved} > {"weight", "bias"}  # and something that is kept


def test_held_scales_without_the_calls() -> None:
    """Whoever calls neither function keeps finite samples of a skipped step, and never others."""
    m = model(HELD)
    for step in training(m, 8, overflows=(0, 4), rules=False):
        for layer in quantized_layers(m):
            assert layer.memory is not None
            assert layer.memory.isfinite().all()
            assert bool((layer.memory[4] > 0) == (step > 0))  # G
    assert all(p.isfinite().all() for p in m.parameters())


def test_a_run_that_overflows_at_sampling_steps_learns() -> None:
    """ue5m3 samples at steps 0 and 50, and GradScaler's first scales overflow: as well as with a current scale."""
    losses = {}
    for name in ("ue5m3_current", "ue5m3"):
        m, seen = model(RECIPES[name]), []
        for _ in training(m, 60, overflows=(0, 1, 50), rules=False):
            seen.append(float((m(normal(64, 32)) - normal(64, 8, seed=1)).square().mean().detach()))
        losses[name] = seen
        assert seen[-1] < 0.9 * seen[0]
    assert losses["ue5m3"][-1] == pytest.approx(losses["ue5m3_current"][-1], rel=0.02)


def test_micro_batches_of_one_step() -> None:
    """A skipped step goes back to before the first of them."""
    m = model(HELD)
    for _ in training(m, 3):
        pass
    before = kept(m)
    set_clock(m, 0, 4)
    for _ in range(2):
        y = m(normal(8, 32, seed=5))
        y.backward(torch.full_like(y, torch.inf))
    before_step(m)
    after_step(m)
    assert equal(before, kept(m)) == []


def test_what_is_loaded_is_not_taken_back() -> None:
    """A state dict loaded within a step is what a skipped step leaves."""
    m = model(HELD)
    for _ in training(m, 3):
        pass
    other = kept(m)
    for name in other:
        if name.endswith("memory"):
            other[name] += 1
    set_clock(m, 0, 3)
    m.load_state_dict(other)
    m(normal(8, 32)).backward(torch.full((8, 8), torch.nan))
    before_step(m)
    assert equal(other, kept(m)) == []
