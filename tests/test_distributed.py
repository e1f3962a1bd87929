"""Two processes train one quantized model under ``DistributedDataParallel`` and ``fully_shard``: gloo on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dse.nn.distributed import sync_held_scales
from dse.nn.quantize import after_step, before_step, quantize_, quantized_layers, set_clock
from dse.numerics.recipe import Exempt, Recipe, override
from dse.recipes import RECIPES
from tests.quantizers import normal
from tests.two_processes import WORLD, gathered, in_both, linux

STEPS = 6
ROUNDED = override(RECIPES["mxfp4"], "*.rounding", "stochastic")
DELAYED = replace(RECIPES["ue5m3"], exempt=Exempt())
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "q_ema": ("q_ema", {"decay": 0.5, "warmup": 1}),
    "q_ramping": ("q_ramping", {"every": 5, "track": 2, "k1": 0.1}),
    "osci_reset": ("osci_reset", {"every": 4, "track": 3, "ratio": 0.1, "start": 0}),
}


def ruled(name: str) -> Recipe:
    base = RECIPES["mxfp4"] if name == "q_ema" else ROUNDED  # Q-EMA decides how W is rounded
    recipe = override(base, "weights", RULES[name][0])
    return replace(recipe, weights=replace(recipe.weights, **RULES[name][1]))  # type: ignore[type-var]


def net(recipe: Recipe) -> Any:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(32, 15), nn.ReLU(), nn.Linear(15, 16, bias=False))  # 15 rows: unequal parts
    return quantize_(model, recipe)


def batch(rank: int, step: int = 0) -> Tensor:
    return normal(6, 32, seed=10 * step + rank) * (1 + 4 * rank)


def train(model: nn.Module, rank: int, own_bits: bool) -> None:
    """A few steps; ``model`` averages gradients over the processes."""
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for step in range(STEPS):
        set_clock(model, 3, step, STEPS, rank=rank if own_bits else 0)
        optimizer.zero_grad()
        model(batch(rank, step)).square().mean().backward()
        before_step(model)
        optimizer.step()
        after_step(model)


def whole(model: nn.Module) -> list[Tensor]:
    return [getattr(p, "full_tensor", lambda p=p: p)().detach().clone() for p in model.parameters()]


def replicated(recipe: Recipe) -> Any:
    return nn.parallel.DistributedDataParallel(net(recipe))


def sharded(recipe: Recipe) -> Any:
    from torch.distributed.fsdp import fully_shard

    model = net(recipe)
    for layer in (model[0], model[2]):
        fully_shard(layer)
    return fully_shard(model)


def seeds_survive(rank: int) -> Any:
    model = replicated(ROUNDED)
    set_clock(model, 100 + rank, 3)
    model(batch(rank))
    set_clock(model, 5, 3, rank=rank)
    same = torch.ones(4, 32)
    return gathered((quantized_layers(model)[0].clock.tolist(), model(same).tolist()))


def gradients_are_means(rank: int) -> Any:
    wrong = []
    for name in ("nvfp4", "quartet2_sr", "tetrajet_q_ema"):
        recipe, alone = replace(RECIPES[name], exempt=Exempt()), []
        for other in range(WORLD):
            model = net(recipe)
            set_clock(model, 5, 3, rank=other)
            model(batch(other)).square().mean().backward()
            alone.append([p.grad for p in model.parameters()])
        expected = [sum(g) / WORLD for g in zip(*alone, strict=True)]
        for spread in (replicated, sharded):
            model = spread(recipe)
            set_clock(model, 5, 3, rank=rank)
            model(batch(rank)).square().mean().backward()
            found = [getattr(p.grad, "full_tensor", lambda p=p: p.grad)() for p in model.parameters()]
            wrong += [
                (name, spread.__name__)
                for a, b in zip(found, expected, strict=True)
                if not torch.allclose(a, b, rtol=1e-5, atol=1e-6)
            ]
    return wrong


def scales_are_agreed(rank: int) -> Any:
    kept = {}
    for spread in (replicated, sharded):
        model = spread(DELAYED)
        set_clock(model, 0, 0)
        model(batch(rank)).square().mean().backward()
        layer = quantized_layers(model)[0]
        before = gathered(layer.memory.tolist())  # type: ignore[union-attr]
        set_clock(model, 0, 1)
        kept[spread.__name__] = before, gathered(layer.memory.tolist())  # type: ignore[union-attr]
    model = net(DELAYED)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        set_clock(model, 0, 0)
        model(batch(rank))
        sync_held_scales(model)
    return kept, gathered(model[0].memory.tolist()), [str(w.message) for w in caught]


def watches_are_agreed(rank: int) -> Any:
    model = replicated(replace(RECIPES["fp4_all_the_way_qaf"], exempt=Exempt()))
    set_clock(model, 0, 0, STEPS)
    model(batch(rank)).square().mean().backward()
    before = gathered(quantized_layers(model)[0].watch.tolist())  # type: ignore[union-attr]
    set_clock(model, 0, 1, STEPS)
    return before, gathered(quantized_layers(model)[0].watch.tolist())  # type: ignore[union-attr]


def rules_act_alike(rank: int) -> Any:
    """Weights of every process after a training under DDP, and of the sharded model."""
    found = {}
    for name in RULES:
        plain = net(replace(ruled(name), weights=None))
        copies = replicated(ruled(name)), sharded(ruled(name)), nn.parallel.DistributedDataParallel(plain)
        for model in copies:
            train(model, rank, own_bits=True)
        found[name] = [gathered(whole(copies[0])), whole(copies[1]), whole(copies[2])]
    return found


def overflows_are_skipped_by_all(rank: int) -> Any:
    """Of the second process's gradients one overflows: what each process keeps, and after the step."""
    recipe = replace(DELAYED, weights=RECIPES["tetrajet_q_ema"].weights)
    changed = {}
    for spread in (replicated, sharded):
        model = spread(recipe)
        states = []
        for step in range(2):
            set_clock(model, 0, step)
            before = {k: getattr(t, "full_tensor", lambda t=t: t)().clone() for k, t in model.state_dict().items()}
            model.zero_grad()
            y = model(batch(rank, step))
            g = torch.ones_like(y)
            g[0, 3] = torch.inf if rank == 1 and step == 0 else 1
            y.backward(g)
            before_step(model)
            after_step(model)
            now = {k: getattr(t, "full_tensor", lambda t=t: t)() for k, t in model.state_dict().items()}
            states.append(sum(not torch.equal(t, now[k]) for k, t in before.items()))
        changed[spread.__name__] = gathered(states)
    return changed


CHECKS: dict[str, Callable[[int], Any]] = {
    f.__name__: f
    for f in (
        seeds_survive,
        gradients_are_means,
        scales_are_agreed,
        watches_are_agreed,
        rules_act_alike,
        overflows_are_skipped_by_all,
    )
}


def checks(rank: int) -> dict[str, Any]:
    """The results of all checks; every process has to make them."""
    return {name: check(rank) for name, check in CHECKS.items()}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return in_both(checks, tmp_path_factory.mktemp("processes"))


@linux
def test_each_process_keeps_its_clock(found: Any) -> None:
    (first, y), (second, z) = found["seeds_survive"]
    assert first == second == [5, 3]
    assert y != z  # the same input, bits of their own


@linux
def test_gradients_are_the_means_of_those_alone(found: Any) -> None:
    assert found["gradients_are_means"] == []


@linux
def test_held_scales_become_the_largest(found: Any) -> None:
    kept, called, said = found["scales_are_agreed"]
    for before, after in kept.values():
        assert before[0] != before[1]
        assert after == [[max(pair) for pair in zip(*before, strict=True)]] * WORLD
    assert called[0] == called[1] != [0.0] * 6
    assert len(said) == 1
    assert "sync_held_scales(model)" in said[0]


@linux
def test_watches_become_the_mean(found: Any) -> None:
    before, after = found["watches_are_agreed"]
    assert before[0] != before[1]
    assert after[0] == after[1] == pytest.approx([sum(pair) / WORLD for pair in zip(*before, strict=True)])


@linux
def test_all_processes_skip_a_step_that_overflows_on_one(found: Any) -> None:
    for both in found["overflows_are_skipped_by_all"].values():
        assert [skipped for skipped, _ in both] == [0, 0]
        assert all(taken >= 4 for _, taken in both), both  # the next step's held scales, and the rule's tensors


@linux
@pytest.mark.parametrize("name", sorted(RULES))
def test_weight_rules_act_alike_on_all_processes_and_on_sharded_weights(found: Any, name: str) -> None:
    copies, parts, without = found["rules_act_alike"][name]
    for a, b, c in zip(copies[0], copies[1], parts, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c, rtol=1e-5, atol=1e-6)
    assert not torch.equal(copies[0][0], without[0])  # the rule did something
