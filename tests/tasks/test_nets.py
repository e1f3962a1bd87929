"""The parts of the models against independent definitions, and the diffusion processes against theirs."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dse.tasks.nets.activations import gelu, silu
from dse.tasks.nets.attention import _Fused, attention
from dse.tasks.nets.llama import Llama
from dse.tasks.nets.patches import patchify, unpatchify
from dse.tasks.nets.rotary import rotary_table, rotate
from dse.tasks.noise import PROCESSES, Ddpm, Edm


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs(causal: bool) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 9, 8).requires_grad_().unbind(0)
    ours, theirs = attention(q, k, v, causal), F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert torch.allclose(ours, theirs, atol=1e-6)
    g = torch.randn_like(ours)
    for a, b in zip(torch.autograd.grad(ours, (q, k, v), g), torch.autograd.grad(theirs, (q, k, v), g), strict=True):
        assert torch.allclose(a, b, atol=2e-6)


def test_attention_has_the_derivative_of_its_formula() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 5, 4, dtype=torch.float64).requires_grad_().unbind(0)
    assert torch.autograd.gradcheck(lambda *x: attention(*x, True), (q, k, v))


@pytest.mark.parametrize("most", [1, 3, 8, 23])
def test_more_heads_than_a_grid_takes_are_computed_in_parts(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same bits, forward and backward, in parts of like size."""
    torch.manual_seed(0)
    stacks = [torch.randn(3, 2, 4, 9, 8).requires_grad_() for _ in range(3)]
    sizes: list[int] = []
    torchs = F.scaled_dot_product_attention

    def seen(q: Tensor, *rest: Tensor, **how: Any) -> Tensor:
        sizes.append(len(q) * q.shape[1])
        return torchs(q, *rest, **how)

    def run() -> list[Tensor]:
        y = torch.vmap(lambda *x: _Fused.apply(*x, True))(*stacks)
        return [y, *torch.autograd.grad(y.square().sum(), stacks)]

    whole = run()
    monkeypatch.setattr("dse.tasks.nets.attention.MOST", most)
    monkeypatch.setattr(F, "scaled_dot_product_attention", seen)
    assert all(torch.equal(a, b) for a, b in zip(run(), whole, strict=True))
    assert sum(sizes) == 24
    assert max(sizes) <= max(most, 4), "a sample's heads stay together"
    assert max(sizes) - min(sizes) <= 4


@pytest.mark.parametrize("causal", [False, True])
def test_the_fused_kernel_packs(causal: bool) -> None:
    """The form for GPUs, run on the CPU: members folded into the batch, BF16 operands, FP32 in and out."""
    torch.manual_seed(0)
    stacks = [torch.randn(3, 2, 4, 9, 8).requires_grad_() for _ in range(2)]
    shared = torch.randn(2, 4, 9, 8).requires_grad_()  # one operand that all members share

    def run(kind: Any) -> list[Tensor]:
        y = torch.vmap(lambda q, k: kind(q, k, shared, causal))(*stacks)
        return [y, *torch.autograd.grad(y.square().sum(), (*stacks, shared))]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused = run(_Fused.apply)
    for a, b in zip(fused, run(attention), strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.02 * b.norm()
    q, k, v = stacks[0][0], stacks[1][0], shared
    alone = _Fused.apply(q, k, v, causal)
    assert torch.allclose(alone, fused[0][0], atol=1e-6)
    assert (torch.autograd.grad(alone.square().sum(), q)[0] - fused[1][0]).norm() < 0.01 * fused[1][0].norm()


@pytest.mark.parametrize(("ours", "theirs"), [(silu, F.silu), (gelu, F.gelu)])
def test_activations_are_torchs(ours: Any, theirs: Any) -> None:
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e4, -300.0, -90.0, 0.0, 90.0, 300.0, 1e4])])
    exact = x.double().requires_grad_()
    y, expected = ours(x.requires_grad_()), theirs(exact)
    (a,), (b,) = torch.autograd.grad(y.sum(), x), torch.autograd.grad(expected.sum(), exact)
    assert torch.allclose(y.double(), expected, rtol=2e-7, atol=5e-7)
    assert torch.allclose(a.double(), b, rtol=2e-7, atol=5e-7)
    assert ours(torch.tensor([torch.nan])).isnan().all()


def test_the_decoder_does_not_see_the_future() -> None:
    torch.manual_seed(0)
    model = Llama(vocabulary=11, context=16, width=32, depth=2, heads=2, hidden=64)
    tokens = torch.randint(11, (2, 16))
    other = tokens.clone()
    other[:, 9:] = (other[:, 9:] + 1) % 11
    with torch.no_grad():
        a, b = model(tokens), model(other)
    assert torch.allclose(a[:, :9], b[:, :9], atol=1e-6)
    assert not torch.allclose(a[:, 9:], b[:, 9:], atol=1e-3)
    assert model(tokens[:, :5]).shape == (2, 5, 11)


def test_rotation_keeps_lengths_and_depends_on_distance_alone() -> None:
    torch.manual_seed(0)
    table = rotary_table(tokens=12, head=8)
    q, k = torch.randn(2, 1, 1, 1, 8).expand(2, 1, 1, 12, 8).unbind(0)  # the same vectors at every place
    turned_q, turned_k = rotate(q, table), rotate(k, table)
    assert torch.allclose(turned_q.norm(dim=-1), q.norm(dim=-1), atol=1e-5)
    scores = (turned_q @ turned_k.mT)[0, 0]
    for distance in (0, 1, 5):
        diagonal = scores.diagonal(-distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5)
    assert (scores.diagonal(0)[0] - scores.diagonal(-1)[0]).abs() > 1e-3


def test_patches_are_tiles_and_go_back() -> None:
    image = torch.arange(2 * 8 * 8).float().reshape(2, 8, 8)
    patches = patchify(image, 4)
    assert patches.shape == (2, 4, 16)
    assert torch.equal(patches[0, 1].reshape(4, 4), image[0, :4, 4:])
    assert torch.equal(unpatchify(patches, 4), image)


def silent(x: Tensor, level: Tensor) -> Tensor:
    return torch.zeros_like(x)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_network_that_answers_zero_has_loss_one(name: str) -> None:
    torch.manual_seed(0)
    process, count = PROCESSES[name], 300
    x0, e = torch.randn(2, count, 16, 16).unbind(0)
    level = process.level((torch.arange(count) + 0.5) / count)
    assert torch.equal(level, level.sort().values)
    losses = process.losses(silent, x0, e, level)
    assert losses.shape == (count,)
    assert losses.mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", PROCESSES)
def test_inputs_have_unit_variance_at_every_level(name: str) -> None:
    torch.manual_seed(0)
    process, seen = PROCESSES[name], []
    x0, e = torch.randn(2, 64, 32, 32).unbind(0)

    def look(x: Tensor, level: Tensor) -> Tensor:
        seen.append((x, level))
        return torch.zeros_like(x)

    process.losses(look, x0, e, process.level((torch.arange(64) + 0.5) / 64))
    ((x, level),) = seen
    assert (x.var((1, 2)) - 1).abs().max() < 0.2
    assert level.abs().max() < 1.5  # of order 1, as the network's embedding expects


def test_edm_target_is_the_denoiser_it_defines() -> None:
    """A network that gives the right F has D = c_skip x + c_out F = x0 (EDM, table 1, sigma_data = 1)."""
    torch.manual_seed(0)
    x0, e = torch.randn(2, 5, 4, 4).unbind(0)
    level = Edm().level(torch.linspace(0.1, 0.9, 5))
    sigma = level.exp()[:, None, None]
    x = x0 + sigma * e
    skip, out = 1 / (sigma**2 + 1), sigma / (sigma**2 + 1).sqrt()
    right = (x0 - skip * x) / out
    assert Edm().losses(lambda *_: right, x0, e, level).max() < 1e-9


def test_ddpm_schedule() -> None:
    ddpm = Ddpm()
    assert ddpm.level(torch.tensor([0.0, 0.5, 0.9999])).tolist() == [0, 500, 999]
    inputs = []
    ones = torch.ones(1, 2, 2)

    def look(x: Tensor, level: Tensor) -> Tensor:
        inputs.append(x)
        return x

    for step in (0.0, 999.0):
        ddpm.losses(look, ones, 0 * ones, torch.tensor([step]))
    kept = [x.mean().item() ** 2 for x in inputs]
    assert kept[0] == pytest.approx(1 - 1e-4, abs=1e-6)
    assert kept[1] == pytest.approx(4.0358e-5, rel=1e-3)  # the product over 1,000 steps, as published code has it
