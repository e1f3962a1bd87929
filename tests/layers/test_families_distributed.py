"""Hugging Face models on two processes, under ``DistributedDataParallel`` and ``fully_shard``: gloo on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dse.nn.quantize import after_step, before_step, quantized_layers, set_clock
from tests.layers.test_families import FAMILIES, batch, made
from tests.two_processes import WORLD, gathered, in_both, linux

pytestmark = [pytest.mark.slow, linux]
RECIPES = ("nvfp4", "ue5m3")


def quiet(name: str, recipe: str) -> Any:
    """A family's quantized model without dropout, of features or of layers."""
    model = made(name, recipe)
    model.config.layerdrop = 0.0
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def loss(model: Any, name: str, rank: int) -> Tensor:
    whole = batch(name)
    torch.manual_seed(0)
    part: Tensor = model(**{key: value[rank : rank + 1] for key, value in whole.items()}).loss
    return part


def replicated(model: Any) -> Any:
    return nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)


def sharded(model: Any) -> Any:
    from torch.distributed.fsdp import fully_shard

    for module in [m for m in model.modules() if isinstance(m, nn.ModuleList)][::-1]:  # the inner ones first
        for block in module:
            if any(True for _ in block.parameters()):
                fully_shard(block)
    return fully_shard(model)


def gradient(p: nn.Parameter) -> Tensor | None:
    return None if p.grad is None else getattr(p.grad, "full_tensor", lambda: p.grad)()


def wrong(name: str, recipe: str, rank: int) -> dict[str, Any]:
    """What of a step is not the mean of the processes' steps alone, by the way of spreading; '' where all is."""
    alone = []
    for other in range(WORLD):
        model = quiet(name, recipe)
        set_clock(model, 5, 3, rank=other)
        loss(model, name, other).backward()
        alone.append([p.grad for p in model.parameters()])
    found = {}
    for spread in (replicated, sharded):
        try:
            model = spread(quiet(name, recipe))
            set_clock(model, 5, 3, rank=rank)
            loss(model, name, rank).backward()
            bad = 0.0
            for p, *each in zip(model.parameters(), *alone, strict=True):
                g = gradient(p)
                if g is not None:
                    expected = sum(e if e is not None else torch.zeros_like(g) for e in each) / WORLD
                    bad = max(bad, ((g - expected).norm() / (expected.norm() + 1e-6)).item())
            before_step(model)
            torch.optim.SGD(model.parameters(), 0.01).step()
            after_step(model)
            set_clock(model, 5, 4, rank=rank)
            scales = [layer.memory.tolist() for layer in quantized_layers(model) if layer.memory is not None]
            kept = gathered(scales)
            found[spread.__name__] = "" if bad < 1e-3 and kept[0] == kept[1] else f"{bad}, {kept[0] == kept[1]}"
        except Exception as error:  # noqa: BLE001 - told by the test, in the first process
            found[spread.__name__] = repr(error)
    return found


def checks(rank: int) -> dict[tuple[str, str], Any]:
    return {(name, recipe): wrong(name, recipe, rank) for name in FAMILIES for recipe in RECIPES}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return in_both(checks, tmp_path_factory.mktemp("processes"), seconds=300)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_on_two_processes(found: Any, name: str, recipe: str) -> None:
    """Gradients are the means of those alone, a step works, and held scales agree."""
    assert found[name, recipe] == {"replicated": "", "sharded": ""}
