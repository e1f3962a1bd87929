"""Layers of several GEMMs on two processes, under ``DistributedDataParallel`` and ``fully_shard``: gloo on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dse.errors import OptionError
from dse.nn.quantize import before_step, quantize_, quantized_layers, set_clock
from dse.numerics.recipe import Exempt, Recipe
from dse.recipes import RECIPES
from tests.quantizers import normal
from tests.two_processes import WORLD, in_both, linux

DELAYED = replace(RECIPES["ue5m3"], exempt=Exempt())
pytestmark = [pytest.mark.slow, linux]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.grouped = nn.Conv1d(4, 16, 3, groups=2, padding=1)
        self.heads = nn.MultiheadAttention(16, 2, batch_first=True)
        self.up = nn.ConvTranspose1d(16, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.grouped(x)).mT
        y = y + self.heads(y, y, y, need_weights=False)[0]
        out: Tensor = self.up(y.mT)
        return out


def net(recipe: Recipe) -> nn.Module:
    return quantize_(Net(), recipe)


def replicated(recipe: Recipe) -> Any:
    return nn.parallel.DistributedDataParallel(net(recipe))


def sharded(recipe: Recipe) -> Any:
    from torch.distributed.fsdp import fully_shard

    model = net(recipe)
    for layer in (model.grouped, model.heads, model.up):
        fully_shard(layer)  # type: ignore[arg-type]
    return fully_shard(model)


def checks(rank: int) -> dict[str, Any]:
    found: dict[str, Any] = {"wrong": [], "scales": []}
    batches = [normal(3, 4, 8, seed=other) * (1 + 3 * other) for other in range(WORLD)]
    for recipe in (replace(RECIPES["mxfp4_rht_sr"], exempt=Exempt()), DELAYED):
        alone = []
        for other in range(WORLD):
            model = net(recipe)
            set_clock(model, 5, 3, rank=other)
            model(batches[other]).square().mean().backward()
            alone.append([p.grad for p in model.parameters()])
        expected = [sum(g) / WORLD for g in zip(*alone, strict=True)]
        for spread in (replicated, sharded):
            model = spread(recipe)
            set_clock(model, 5, 3, rank=rank)
            model(batches[rank]).square().mean().backward()
            gradients = [getattr(p.grad, "full_tensor", lambda p=p: p.grad)() for p in model.parameters()]
            for a, b in zip(gradients, expected, strict=True):
                if not torch.allclose(a, b, rtol=1e-4, atol=1e-6):
                    found["wrong"].append((recipe.name, spread.__name__, list(b.shape), float((a - b).abs().max())))
            if recipe is DELAYED:
                set_clock(model, 5, 4, rank=rank)
                mine = [layer.memory.tolist() for layer in quantized_layers(model)]  # type: ignore[union-attr]
                out: list[Any] = [None] * WORLD
                torch.distributed.all_gather_object(out, mine)
                found["scales"].append((out[0] == out[1], sum(any(m) for m in mine)))
    model = sharded(replace(RECIPES["tetrajet_q_ema"], exempt=Exempt()))
    set_clock(model, 0, 0)
    model(batches[rank]).square().mean().backward()
    try:
        before_step(model)
    except OptionError as error:
        found["ruled"] = str(error)
    return found


def test_parts_train_on_two_processes(tmp_path: Path) -> None:
    """Gradients are the means of those alone, held scales are agreed, and rules refuse slices of sharded weights."""
    found = in_both(checks, tmp_path)
    assert found["wrong"] == []
    assert found["scales"] == [(True, 7), (True, 7)]
    assert "rules do not act on slices of sharded parameters" in found["ruled"]
