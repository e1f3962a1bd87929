"""The packed layer against ``QuantizedLinear``, which users' own models get: the same Y, dX and dW, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dse.nn.quantize import quantize_, set_clock
from dse.numerics.recipe import Exempt, Recipe
from dse.pack.grouping import unlabeled
from dse.pack.layer import PackLayer
from dse.pack.linear import _Stacked
from dse.recipes import RECIPES

M, N, K = 24, 48, 80
SEEDS = (5, 6, 9)


def operands() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x, w, g = (torch.randn(len(SEEDS), *s, generator=generator) for s in ((M, K), (N, K), (M, N)))
    return x.exp() * x, w, g * 1e-3


def alone(recipe: Recipe, x: Tensor, w: Tensor, g: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    linear = nn.Linear(K, N, bias=False)
    linear.weight.data = w.clone()
    model = quantize_(nn.Sequential(linear), recipe)
    set_clock(model, seed, 3)
    x = x.clone().requires_grad_()
    y = model(x)
    y.backward(g)
    assert x.grad is not None
    assert linear.weight.grad is not None
    return y.detach(), x.grad, linear.weight.grad


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_same_bits(name: str) -> None:
    torch.set_num_threads(1)
    recipe = unlabeled(replace(RECIPES[name], exempt=Exempt()))
    x, w, g = operands()
    clock = torch.tensor([[seed, 3] for seed in SEEDS])
    layer = PackLayer([recipe] * len(SEEDS), w, clock, 0, use_kernels=False)
    x, w = x.requires_grad_(), w.clone().requires_grad_()
    y = _Stacked.apply(x, w, layer)  # type: ignore[no-untyped-call]
    y.backward(g)
    for i, seed in enumerate(SEEDS):
        expected = alone(recipe, x.detach()[i], w.detach()[i], g[i], seed)
        assert x.grad is not None
        assert w.grad is not None
        for what, mine, theirs in zip(("Y", "dX", "dW"), (y[i], x.grad[i], w.grad[i]), expected, strict=True):
            assert torch.equal(mine, theirs), what
