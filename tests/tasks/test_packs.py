"""On the CPU a member of a pack has the bits of its solo run: loss, every gradient, every held-out metric."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dse.tasks import TASKS, Task
from dse.tasks.nets.activations import gelu, silu
from dse.tasks.nets.attention import attention
from tests.tasks.packing import Pack, packable

pytestmark = pytest.mark.usefixtures("short_sampling")

CASES: dict[str, Task[Any]] = {
    "regression": TASKS["regression"](),
    "regression-linear": TASKS["regression"](net="linear", noise=0.1),
    "regression-diabetes": TASKS["regression"](source="diabetes"),
    "image": TASKS["image"](),
    "image-vit": TASKS["image"](net="vit"),
    "diffusion": TASKS["diffusion"](),
    "diffusion-edm": TASKS["diffusion"](process="edm"),
    "lm": TASKS["lm"](),
}
WIDTHS = (1, 2, 5, 64)


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """One thread, and a vmap that falls back to a loop is an error."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def models(task: Task[Any], data: Any, count: int) -> list[torch.nn.Module]:
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(packable(task.model(data)))
    return made


@pytest.mark.parametrize("size", [3, 8])  # an odd batch: members do not begin at multiples of a vector's length
@pytest.mark.parametrize("name", CASES)
def test_a_member_has_the_bits_of_its_solo_run(name: str, size: int) -> None:
    task = CASES[name]
    data = task.load()
    members = models(task, data, 5)
    seeds, step = torch.arange(5) + 70, torch.tensor(3)
    batch = task.batch(data, seeds, step, size)
    whole = Pack(task, members, offset=3)
    losses, gradients = whole.step(batch)
    held = task.held_out(data)[0]
    metrics = whole.measure(held)
    for i in (0, 1, 4):
        one = Pack(task, members[i : i + 1])
        mine = task.batch(data, seeds[i : i + 1], step, size)
        assert all(torch.equal(part[i], alone[0]) for part, alone in zip(batch, mine, strict=True))
        loss, gradient = one.step(mine)
        assert torch.equal(losses[i], loss[0])
        for parameter, a, b in zip(whole.names, gradients, gradient, strict=True):
            assert b.any(), parameter
            assert torch.equal(a[i], b[0]), parameter
        for key, value in one.measure(held).items():
            assert torch.equal(metrics[key][i], value[0]), key


@pytest.mark.parametrize("name", ["image-vit", "lm"])
def test_a_wide_pack(name: str) -> None:
    task = CASES[name]
    data = task.load()
    members = [model for model in models(task, data, 4) for _ in range(16)]
    batch = task.batch(data, torch.arange(64), torch.tensor(0), 2)
    losses, gradients = Pack(task, members).step(batch)
    for i in (0, 37, 63):
        loss, gradient = Pack(task, members[i : i + 1]).step(tuple(part[i : i + 1] for part in batch))
        assert torch.equal(losses[i], loss[0])
        assert all(torch.equal(a[i], b[0]) for a, b in zip(gradients, gradient, strict=True))


def test_an_odd_alphabet(tmp_path: Path) -> None:
    """28 characters: rows of scores that are no multiple of a vector's length."""
    (tmp_path / "fox.txt").write_text("the quick brown fox jumps over lazy dogs\n" * 60, encoding="utf-8")
    task = TASKS["lm"](text=str(tmp_path / "fox.txt"))
    data = task.load()
    members = models(task, data, 3)
    batch = task.batch(data, torch.arange(3), torch.tensor(0), 3)
    losses, gradients = Pack(task, members, offset=5).step(batch)
    for i in range(3):
        loss, gradient = Pack(task, members[i : i + 1]).step(tuple(part[i : i + 1] for part in batch))
        assert torch.equal(losses[i], loss[0])
        assert all(torch.equal(a[i], b[0]) for a, b in zip(gradients, gradient, strict=True))


def test_nan_in_one_member_leaves_the_others_alone() -> None:
    task = CASES["lm"]
    data = task.load()
    members = models(task, data, 3)
    batch = task.batch(data, torch.arange(3), torch.tensor(0), 2)
    losses, gradients = Pack(task, members).step(batch)
    with torch.no_grad():
        next(members[1].parameters()).fill_(torch.nan)
    again, others = Pack(task, members).step(batch)
    assert again.isnan().tolist() == [False, True, False]
    for i in (0, 2):
        assert torch.equal(losses[i], again[i])
        assert all(torch.equal(a[i], b[i]) for a, b in zip(gradients, others, strict=True))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_has_the_same_bits_in_any_pack(causal: bool) -> None:
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    torch.manual_seed(seed)
    for shape in ((2, 2, 9, 8), (1, 3, 1, 4), (3, 1, 33, 5), (2, 2, 64, 32)):
        for members in WIDTHS:
            q, k, v, g = torch.randn(4, members, *shape).unbind(0)
            packed = gradients(q, k, v, g, causal)
            for i in {0, members // 2, members - 1}:
                alone = gradients(*(x[i : i + 1].clone() for x in (q, k, v, g)), causal)
                assert all(torch.equal(a[i], b[0]) for a, b in zip(packed, alone, strict=True)), (shape, members)


def gradients(q: Tensor, k: Tensor, v: Tensor, g: Tensor, causal: bool) -> list[Tensor]:
    """The output and the three gradients of attention under vmap."""
    inputs = [x.requires_grad_() for x in (q.clone(), k.clone(), v.clone())]
    y = torch.vmap(lambda *qkv: attention(*qkv, causal))(*inputs)
    return [y.detach(), *torch.autograd.grad(y, inputs, g)]


@pytest.mark.parametrize("function", [silu, gelu])
@pytest.mark.parametrize("shape", [(1,), (7, 5), (37,), (64, 3)])
def test_activations_have_the_same_bits_in_any_pack(function: Any, shape: tuple[int, ...]) -> None:
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    torch.manual_seed(seed)
    for members in WIDTHS:
        x = (3 * torch.randn(members, *shape)).requires_grad_()
        y = torch.vmap(function)(x)
        (dx,) = torch.autograd.grad(y.sum(), x)
        for i in range(members):
            alone = x[i : i + 1].detach().clone().requires_grad_()
            z = torch.vmap(function)(alone)
            assert torch.equal(z[0], y[i])
            assert torch.equal(torch.autograd.grad(z.sum(), alone)[0][0], dx[i])
