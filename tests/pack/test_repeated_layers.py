"""A layer that a task's model uses twice draws bits of its own in each use, in a pack as alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dse.nn.quantize import quantize_, set_clock
from dse.numerics.recipe import Exempt, Recipe, override
from dse.pack.attention import PackAttention, PackedAttention
from dse.pack.layer import PackLayer
from dse.pack.linear import PackedLinear
from dse.recipes import RECIPES
from dse.tasks.nets.attention import Core
from tests.quantizers import normal

ROUNDED = replace(override(RECIPES["mxfp4"], "*.rounding", "stochastic"), exempt=Exempt())
SEEDS = (5, 6, 9)


class Twice(nn.Module):
    """One linear applied twice, then one attention twice."""

    def __init__(self, linear: nn.Module, core: nn.Module) -> None:
        super().__init__()
        self.linear, self.core = linear, core

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.linear(torch.relu(self.linear(x)))
        q = h.unsqueeze(1)
        y: Tensor = self.core(q, q, q) + self.core(q, q, q.relu())
        return y


def attentive(recipe: Recipe) -> Recipe:
    return override(override(recipe, "attention", "same"), "attention.*.rounding", "stochastic")


def test_uses_are_numbered_as_alone() -> None:
    recipe = attentive(ROUNDED)
    w, x = normal(3, 16, 16), normal(3, 2, 8, 16, seed=1)
    clock = torch.tensor([[seed, 4] for seed in SEEDS])
    for sampling in (True, False):  # a probe's losses draw the bits of the step
        layer = PackLayer([recipe] * 3, w, clock, 0, use_kernels=False)
        heads = PackAttention(Core(), [recipe] * 3, clock, 0, use_kernels=False)
        place = PackedLinear(nn.Linear(16, 16, bias=False))
        place.layer = layer
        model = Twice(place, PackedAttention(heads))
        for each in (layer, heads):
            each.training, each.calls = sampling, 0  # type: ignore[attr-defined]
        weights = w.clone().requires_grad_()

        def one(x: Tensor, w: Tensor, model: nn.Module = model) -> Tensor:
            named: Mapping[str, Tensor] = {"linear.weight": w}
            y: Tensor = torch.func.functional_call(model, dict(named), (x,))
            return y

        y = torch.vmap(one)(x, weights)
        (dw,) = torch.autograd.grad(y.square().sum(), weights)
        for i, seed in enumerate(SEEDS):
            alone: Any = Twice(nn.Linear(16, 16, bias=False), Core())
            alone.linear.weight.data = w[i].clone()
            quantize_(alone, recipe)
            set_clock(alone, seed, 4)
            expected = alone(x[i])
            assert torch.equal(y[i], expected)
            expected.square().sum().backward()
            torch.testing.assert_close(dw[i], alone.linear.weight.grad, rtol=1e-5, atol=1e-5)
            again = alone(x[i])
            assert not torch.equal(again, expected)  # the uses did draw by their number
