"""Random bits never repeat silently: every training call of a layer draws its own, and recomputations draw the same."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dse.nn.clock import Calls
from dse.nn.quantize import after_step, before_step, quantize_, quantized_layers, set_clock
from dse.numerics.recipe import override
from dse.numerics.techniques.weights import OsciReset
from dse.recipes import RECIPES
from dse.tasks.nets.attention import Core
from tests.quantizers import normal

ROUNDED = override(RECIPES["mxfp4"], "*.rounding", "stochastic")
"""All six operands are rounded stochastically."""


def net(recipe: Any = ROUNDED) -> Any:
    torch.manual_seed(0)
    return quantize_(nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 16)), recipe)


def gradients(model: nn.Module, *losses: Tensor) -> Tensor:
    """The gradients of the losses' sum, one backward pass after the other."""
    model.zero_grad()
    for loss in losses:
        loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_the_first_call_of_a_step_draws_what_seed_and_step_address() -> None:
    calls = Calls(None)
    x = [normal(4, 8)]
    calls.set(2**40 + 5, 17)
    addresses = [calls.address(x).tolist() for _ in range(1000)]
    assert addresses[0] == [2**40 + 5, 17] == calls.clock.tolist()
    assert len({tuple(a) for a in addresses}) == 1000
    assert all(step == 17 and seed & 0xFFFFFFFF == 5 for seed, step in addresses)
    calls.set(2**40 + 5, 17)
    assert [calls.address(x).tolist() for _ in range(3)] == addresses[:3]
    ranks = []
    for rank in range(8):
        calls.set(5, 17, rank)
        ranks += [tuple(calls.address(x).tolist()) for _ in range(4)]
    assert len(set(ranks)) == 32


def test_without_a_clock_every_call_is_a_step() -> None:
    model, told = net(), net()
    for step in range(3):
        set_clock(told, 0, step)
        assert torch.equal(model(normal(4, 32)), told(normal(4, 32)))


def test_micro_batches_and_shared_layers_draw_apart() -> None:
    model, x = net(), normal(8, 32)
    set_clock(model, 1, 2)
    first, second = model(x), model(x)
    assert not torch.equal(first, second)
    set_clock(model, 1, 2)
    assert torch.equal(model(x), first)
    model.eval()
    quiet = model(x)
    assert torch.equal(quiet, model(x))
    assert torch.equal(quiet, first)  # evaluation draws the first call's
    model.train()
    assert torch.equal(model(x), second)  # and is not counted


def test_weight_rules_draw_the_steps_bits_however_many_calls_there_were() -> None:
    recipe = replace(ROUNDED, weights=OsciReset(every=4, track=3, ratio=0.1))
    weights = []
    for calls, rank in ((1, 0), (4, 0), (2, 3)):
        model = net(recipe)
        for step in range(9):
            set_clock(model, 1, step, rank=rank)
            for _ in range(calls):
                model(normal(2, 32))
            before_step(model)
            with torch.no_grad():
                model[0].weight.add_(0.05 * normal(16, 32, seed=step))
            after_step(model)
        weights.append(model[0].weight.clone())
    unruled = net().get_parameter("0.weight") + sum(0.05 * normal(16, 32, seed=step) for step in range(9))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], unruled)


ORDERS = ["one", "in turn", "together", "first first", "last first"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_recomputes_with_the_same_bits(reentrant: bool, order: str) -> None:
    """Gradients equal those without checkpointing, bit for bit, however forward and backward passes interleave."""
    x = [normal(8, 32, seed=s).requires_grad_() for s in range(3)]

    def run(checkpointed: bool) -> Tensor:
        model = net()
        shared = model[2]

        def body(x: Tensor) -> Tensor:
            return shared(model[1](shared(model[:2](x))))  # type: ignore[no-any-return]

        def loss(i: int) -> Tensor:
            y = checkpoint(body, x[i], use_reentrant=reentrant) if checkpointed else body(x[i])
            return y.square().mean()

        set_clock(model, 3, 4)
        if order == "one":
            return gradients(model, loss(0))
        if order == "in turn":
            return torch.cat([gradients(model, loss(i)) for i in range(3)])
        if order == "together":
            return gradients(model, loss(0) + loss(1) + loss(2))
        losses = [loss(i) for i in range(3)]
        set_clock(model, 3, 5)  # the time moves on before the backward passes
        return gradients(model, *(losses if order == "first first" else losses[::-1]))

    ours, expected = run(True), run(False)
    if reentrant and order == "together":  # each region adds its gradients by itself, in another order
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)
    else:
        assert torch.equal(ours, expected)


def test_checkpointed_steps_with_the_same_batch_repeat() -> None:
    """The first layer sees the same input in every step: the latest call is the one that is recomputed."""
    x, results = normal(8, 32), []
    for checkpointed in (False, True):
        model = net()
        for step in range(4):
            set_clock(model, 0, step)
            y = checkpoint(model, x, use_reentrant=False) if checkpointed else model(x)
            results.append(gradients(model, y.square().mean()))
    for a, b in zip(results[:4], results[4:], strict=True):
        assert torch.equal(a, b)


def test_attention_counts_its_calls_too() -> None:
    recipe = override(RECIPES["mxfp4"], "attention", "same")
    recipe = override(recipe, "attention.*.rounding", "stochastic")
    model: Any = quantize_(nn.ModuleDict({"linear": nn.Linear(4, 4), "core": Core()}), recipe)
    q, k, v = (normal(1, 2, 16, 16, seed=s).requires_grad_() for s in range(3))
    set_clock(model, 5, 1)
    first, second = model["core"](q, k, v), model["core"](q, k, v)
    assert not torch.equal(first, second)
    set_clock(model, 5, 1)
    expected = torch.autograd.grad(model["core"](q, k, v).sum() + model["core"](q, k, q).sum(), (q, k, v))
    set_clock(model, 5, 1)
    again = sum(checkpoint(model["core"], *x, use_reentrant=True).sum() for x in ((q, k, v), (q, k, q)))
    for a, b in zip(_grads(again, (q, k, v)), expected, strict=True):
        assert torch.equal(a, b)


def _grads(loss: Any, leaves: tuple[Tensor, ...]) -> list[Any]:
    for leaf in leaves:
        leaf.grad = None
    loss.backward()  # reentrant checkpointing knows backward() only
    return [leaf.grad for leaf in leaves]


def test_operands_are_remembered_only_where_they_may_come_again() -> None:
    """Which is under checkpointing; elsewhere nobody reads them a second time."""
    model, x = net(), normal(8, 32)
    gradients(model, model(x).square().mean())
    assert model[0].calls._seen is None
    checkpoint(model, x, use_reentrant=False)
    assert model[0].calls._seen is not None


def test_copies_go_on_counting_by_themselves() -> None:
    model, x = net(), normal(4, 32)
    set_clock(model, 0, 0)
    model(x)
    other = copy.deepcopy(model)
    assert torch.equal(model(x), other(x))
    assert quantized_layers(other)[0].calls is not quantized_layers(model)[0].calls


def test_clocks_are_no_buffers() -> None:
    """``DistributedDataParallel`` would overwrite each rank's by the first's."""
    assert not [name for name, _ in net().named_buffers() if "clock" in name]
