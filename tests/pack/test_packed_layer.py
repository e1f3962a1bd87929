"""The packed layer against ``QuantizedLinear``, which users' own models get: the same Y and gradients, bit for bit."""

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


def alone(recipe: Recipe, x: Tensor, w: Tensor, b: Tensor, g: Tensor, seed: int) -> tuple[Tensor | None, ...]:
    linear = nn.Linear(K, N)
    linear.weight.data, linear.bias.data = w.clone(), b.clone()
    model = quantize_(nn.Sequential(linear), recipe)
    set_clock(model, seed, 3)
    x = x.clone().requires_grad_()
    y = model(x)
    y.backward(g)
    return y.detach(), x.grad, linear.weight.grad


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_same_bits(name: str, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    recipe = unlabeled(replace(RECIPES[name], exempt=Exempt(), layers=()))
    x, w, g = operands()
    x, b, g = x.to(dtype), w[..., 0].clone(), g.to(dtype)
    clock = torch.tensor([[seed, 3] for seed in SEEDS])
    layer = PackLayer([recipe] * len(SEEDS), w, clock, 0, use_kernels=False)
    x, w, b = x.requires_grad_(), w.clone().requires_grad_(), b.requires_grad_()
    y = _Stacked.apply(x, w, b, layer)  # type: ignore[no-untyped-call]
    assert y.dtype == dtype
    y.backward(g)
    assert x.grad is not None
    assert w.grad is not None
    assert b.grad is not None
    for i, seed in enumerate(SEEDS):
        expected = alone(recipe, x.detach()[i], w.detach()[i], b.detach()[i], g[i], seed)
        for what, mine, theirs in zip(("Y", "dX", "dW"), (y[i], x.grad[i], w.grad[i]), expected, strict=True):
            assert theirs is not None
            assert mine.dtype == theirs.dtype, what
            assert torch.equal(mine, theirs), what
        torch.testing.assert_close(b.grad[i], g[i].float().sum(0))
