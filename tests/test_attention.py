"""Attention with quantized products against plain attention, its formulas written out, and finite differences."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dse.nn.attention import QuantizedAttention, attend
from dse.nn.quantize import quantize_, quantized_layers, set_clock
from dse.numerics.attention import Attention, Product
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import UE4M3, UE5M3
from dse.numerics.gemm import Gemm
from dse.numerics.random import Key
from dse.numerics.recipe import Exempt, override
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.schedules import ForwardOnly, LastStage
from dse.numerics.techniques.statistics import SoftSoft
from dse.numerics.techniques.tensor_scales import Current
from dse.recipes import RECIPES
from dse.tasks.nets.attention import Core, attention
from dse.tasks.nets.dit import Dit
from dse.tasks.nets.gpt import Gpt
from dse.tasks.nets.llama import Llama
from dse.tasks.nets.vit import Vit
from tests.gradients.finite import derivative
from tests.gradients.stairs import margins, smooth, stairs  # noqa: F401

CLOCK = torch.tensor([11, 4])
KEY = Key(CLOCK, 3)
NVFP4 = BlockQuantizer(scale=UE4M3, block=16, tensor_scale=Current())


def same(name: str) -> Attention:
    """Attention with the numerics of a recipe's linears."""
    found = override(RECIPES[name], "attention", "same").attention
    assert found is not None
    return found


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def heads(dtype: torch.dtype = torch.float32, tokens: int = 20, dim: int = 24) -> list[Tensor]:
    """q, k, v and the gradient of the output."""
    return [normal(2, 3, tokens, dim, seed=i, dtype=dtype) for i in range(4)]


def gradients(y: Tensor, inputs: list[Tensor], g: Tensor) -> list[Tensor]:
    return [y.detach(), *torch.autograd.grad(y, inputs, g)]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("smooth_keys", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unquantized_it_is_plain_attention(causal: bool, dropped: bool, smooth_keys: bool, dtype: torch.dtype) -> None:
    q, k, v, g = heads(dtype)
    keep = (normal(2, 3, 20, 20, seed=9) > -0.8).to(dtype) * 1.25 if dropped else None
    leaves = [x.requires_grad_() for x in (q, k, v)]
    found = gradients(attend(Attention(smooth_keys=smooth_keys), *leaves, causal, keep, KEY), leaves, g)
    expected = gradients(attention(*leaves, causal, keep), leaves, g)
    eps = torch.finfo(dtype).eps
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a, b, rtol=40 * eps, atol=40 * eps)


def test_a_model_in_bf16_is_computed_in_fp32() -> None:
    q, k, v, g = (x.bfloat16() for x in heads())
    leaves = [x.requires_grad_() for x in (q, k, v)]
    found = gradients(attend(same("nvfp4_plain"), *leaves, True, None, KEY), leaves, g)
    wide = [x.detach().float().requires_grad_() for x in leaves]
    expected = gradients(attend(same("nvfp4_plain"), *wide, True, None, KEY).bfloat16(), wide, g)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.bfloat16
        assert torch.equal(a, b.bfloat16())


MIXED = Attention(
    Product(
        Gemm(NVFP4, replace(NVFP4, tile=16), Hadamard(8, "fixed")),
        Gemm(NVFP4, replace(NVFP4, tile=0, block=5)),
        Gemm(replace(NVFP4, block=0), NVFP4, Hadamard(16, "fixed")),
    ),
    Product(Gemm(replace(NVFP4, block=4), NVFP4), Gemm(NVFP4, NVFP4), Gemm(NVFP4, replace(NVFP4, tile=3))),
)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("source", ["original", "forward"])
def test_straight_through_products_are_their_formulas(causal: bool, source: str) -> None:
    """Twelve quantizations and six products, by hand, for one sample and head at a time."""
    plain = MIXED if source == "original" else replace(MIXED, scores=same("mxfp4").scores, outputs=MIXED.outputs)
    numerics = replace(
        plain,
        scores=replace(plain.scores, backward_source=source),
        outputs=replace(plain.outputs, backward_source=source),
    )
    q, k, v, g = heads(torch.float64)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    found = gradients(attend(numerics, *leaves, causal, None, KEY), leaves, g)

    def product(gemm: Gemm, a: Tensor, b: Tensor) -> Tensor:
        return gemm(a, b, KEY)

    for i in range(2):
        for j in range(3):
            q1, k1, v1, g1 = (x.detach()[i, j] for x in (*leaves, g))
            s = product(numerics.scores.fprop, q1, k1) * (1 / math.sqrt(24))
            if causal:
                s = s + torch.full((20, 20), -math.inf, dtype=s.dtype).triu(1)
            p = s.softmax(-1)  # torch's, bit for bit: copies that are quantized twice lie on ties
            o = product(numerics.outputs.fprop, p, v1.T)
            if source == "forward":
                pb, vb = (f.dequantized(x) for f, x in ((MIXED.outputs.fprop.lhs, p), (MIXED.outputs.fprop.rhs, v1.T)))
                qb, kb = (same("mxfp4").scores.fprop.lhs.dequantized(x) for x in (q1, k1))
            else:
                pb, vb, qb, kb = p, v1.T, q1, k1
            dp = product(numerics.outputs.dgrad, g1, vb.T)
            dv = product(numerics.outputs.wgrad, g1.T, pb.T).T
            ds = p * (dp - (dp * p).sum(-1, keepdim=True)) * (1 / math.sqrt(24))
            dq = product(numerics.scores.dgrad, ds, kb.T)
            dk = product(numerics.scores.wgrad, ds.T, qb.T)
            for name, a, b in zip("Oqkv", found, (o, dq, dk, dv), strict=True):
                torch.testing.assert_close(a[i, j], b, rtol=1e-11, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


def test_scales_do_not_reach_over_samples_and_heads() -> None:
    q, k, v, _ = heads()
    whole = attend(same("nvfp4_plain"), q, k, v, True, None, KEY)
    loud = [torch.cat([x[:1], 1e3 * x[1:]]) for x in (q, k, v)]
    assert torch.equal(attend(same("nvfp4_plain"), *loud, True, None, KEY)[0], whole[0])


def test_what_the_mask_hides_is_exactly_zero_in_both_directions() -> None:
    """Later tokens reach an earlier one through V's block scales alone: with a scale per key, not at all."""
    rounded = replace(NVFP4, tensor_scale=None)
    gemm, by_key = Gemm(rounded, rounded), Gemm(rounded, replace(rounded, block=1))
    numerics = Attention(Product(gemm, gemm, gemm), Product(by_key, gemm, gemm))
    q, k, v, g = heads()
    leaves = [x.requires_grad_() for x in (q, k, v)]
    y = attend(numerics, *leaves, True, None, KEY)
    later = [torch.cat([x[..., :12, :], 3 * x[..., 12:, :]], -2) for x in leaves]
    assert torch.equal(attend(numerics, *later, True, None, KEY)[..., :12, :], y[..., :12, :])
    g = torch.cat([g[..., :7, :], torch.zeros_like(g[..., 7:, :])], -2)
    for dx in torch.autograd.grad(y, leaves, g):
        assert dx[..., :7, :].abs().max() > 0
        assert dx[..., 7:, :].abs().max() == 0


def test_draws_are_those_of_one_operand_of_all_rows() -> None:
    rounding = replace(NVFP4, tensor_scale=None, rounding=Stochastic())
    key = replace(KEY, matrices=6)
    x = normal(6, 20, 32)
    together = rounding(x.flatten(0, 1), KEY).values.view(6, 20, 32)
    assert torch.equal(rounding(x, key).values, together)
    one = x[:1].expand_as(x)
    assert len({t.numpy().tobytes() for t in rounding(one.contiguous(), key).values}) == 6  # heads draw their own
    pack = Key(torch.tensor([[1, 4], [11, 4]]), 3, matrices=6)  # and members theirs
    assert torch.equal(rounding(torch.cat([x, x]), pack).values[6:], rounding(x, key).values)


def test_products_and_attentions_draw_apart() -> None:
    model = nn.ModuleList([Core() for _ in range(2)])
    holder = nn.ModuleDict({"linear": nn.Linear(4, 4), "heads": model})
    numerics = override(RECIPES["mxfp4"], "attention", "same")
    numerics = override(numerics, "attention.*.rounding", "stochastic")
    quantize_(holder, numerics)
    set_clock(holder, 5, 1)
    x = normal(1, 1, 16, 16)
    first, second = (core(x, x, x) for core in model)
    assert not torch.equal(first, second)
    assert not torch.equal(first, model[0](x, x, x))  # a second call
    set_clock(holder, 5, 1)
    assert torch.equal(first, model[0](x, x, x))
    set_clock(holder, 5, 2)
    assert not torch.equal(first, model[0](x, x, x))


SMOOTH = BlockQuantizer(scale=UE5M3, block=4, constant=4.7, scale_gradient="full", **smooth())


@pytest.mark.usefixtures("stairs")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("smooth_keys", [False, True])
def test_an_exact_backward_pass_is_the_gradient_of_the_loss(causal: bool, smooth_keys: bool) -> None:
    """With smooth casts, unquantized backward GEMMs and forward copies, against finite differences."""
    soft = replace(SMOOTH, statistic=SoftSoft(3.0))
    scaled = replace(SMOOTH, block=3, tensor_scale=Current(17.3, "exact"))
    numerics = Attention(
        Product(fprop=Gemm(soft, scaled, Hadamard(4, "fixed")), backward_source="forward"),
        Product(fprop=Gemm(SMOOTH, soft), backward_source="forward"),
        smooth_keys,
    )

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(numerics, q, k, v, causal, None, KEY)

    for seed in range(1000):
        q, k, v, g = (normal(1, 6, 4, seed=4 * seed + i, dtype=torch.float64) for i in range(4))
        with margins() as margin:
            run(q, k, v)
        if float(margin.least) > 2e-3:
            break
    else:
        raise AssertionError("no seed below 1000 keeps its distance from the kinks")
    leaves = [x.requires_grad_() for x in (q, k, v)]
    found = torch.autograd.grad(run(*leaves), leaves, g)
    for i, name in enumerate("qkv"):

        def loss(at: Tensor, i: int = i) -> Tensor:
            inputs = [x.detach().expand_as(at) for x in leaves]
            inputs[i] = at
            return (run(*inputs) * g).sum((-3, -2, -1))

        expected = derivative(loss, leaves[i].detach()).view_as(leaves[i])
        torch.testing.assert_close(found[i], expected, rtol=1e-6, atol=1e-7, msg=lambda m, n=name: f"d{n}: {m}")


NETS = {
    "llama": lambda: Llama(vocabulary=11, context=16, width=32, depth=2, heads=2, hidden=64, qk_norm=True),
    "gpt": lambda: Gpt(vocabulary=11, context=16, width=32, depth=2, heads=2),
    "vit": lambda: Vit(side=8, patch=2, width=32, depth=2, heads=2, hidden=64, classes=3),
    "dit": lambda: Dit(side=8, patch=2, width=32, depth=2, heads=2, hidden=64),
}


@pytest.mark.parametrize("name", NETS)
def test_every_net_has_its_attention_quantized(name: str) -> None:
    torch.manual_seed(0)
    plain = NETS[name]()
    inputs = {
        "vit": (normal(2, 8, 8),),
        "dit": (normal(2, 8, 8), normal(2)),
    }.get(name, (torch.randint(11, (2, 16)),))
    if name == "dit":
        nn.init.normal_(plain.head.weight)
    recipe = RECIPES["fp32"]
    twins = {}
    for data in ("none", {"outputs": "same"}, "same"):
        source = override(RECIPES["mxfp4"], "attention", data).attention
        twins[str(data)] = quantize_(copy.deepcopy(plain), replace(recipe, attention=source))
        found = [m for m in twins[str(data)].modules() if isinstance(m, QuantizedAttention)]
        assert len(found) == (0 if source is None else 2)
        assert len(quantized_layers(twins[str(data)])) == len([m for m in plain.modules() if type(m) is nn.Linear])
        assert [n for n, _ in plain.named_parameters()] == [n for n, _ in twins[str(data)].named_parameters()]
        assert plain.state_dict().keys() == twins[str(data)].state_dict().keys()
    expected = plain(*inputs)
    none, half, both = (twin(*inputs) for twin in twins.values())
    assert torch.allclose(none, expected, atol=1e-5)
    errors = [float((y - expected).detach().norm() / expected.detach().norm()) for y in (half, both)]
    assert 0.001 < errors[0] < 0.5
    assert 0.001 < errors[1] < 0.7
    assert not torch.equal(half, both)


def quantized(model: nn.Module) -> list[str]:
    return [name for name, m in model.named_modules() if isinstance(m, QuantizedAttention)]


def test_which_attentions_are_left_alone() -> None:
    recipe = override(RECIPES["mxfp4"], "attention", "same")
    both = ["blocks.0.attention.core", "blocks.1.attention.core"]
    assert quantized(quantize_(NETS["llama"](), recipe)) == both
    assert quantized(quantize_(NETS["llama"](), RECIPES["mxfp4"])) == []
    assert quantized(quantize_(NETS["llama"](), recipe, exempt=["blocks.0.*"])) == both[1:]
    assert quantized(quantize_(NETS["llama"](), recipe, exempt=["*.core"])) == []
    exempt = replace(recipe, exempt=Exempt(names=("*.1.attention*",)))
    assert quantized(quantize_(NETS["llama"](), exempt)) == both[:1]
    for first, left in ((3, both), (4, both[1:]), (10, both[1:]), (11, [])):  # q, k, v, o, gate, up, down of a block
        assert quantized(quantize_(NETS["llama"](), replace(recipe, exempt=Exempt(first=first)))) == left, first
    only = quantize_(NETS["llama"](), recipe, where=lambda name, _: name.startswith("blocks.1."))
    assert quantized(only) == both[1:]


@pytest.mark.parametrize("schedule", [ForwardOnly(0.5), LastStage(0.5)])
def test_schedules_switch_attention_too(schedule: ForwardOnly | LastStage) -> None:
    torch.manual_seed(0)
    recipe = replace(override(RECIPES["mxfp4"], "attention", "same"), schedule=schedule)
    plain = nn.Sequential(nn.Linear(16, 16), Core())
    model = quantize_(copy.deepcopy(plain), recipe)
    q, k, v, g = (normal(1, 2, 8, 16, seed=i) for i in range(4))
    leaves = [x.requires_grad_() for x in (q, k, v)]
    outcomes = []
    for step in (0, 9):
        set_clock(model, 0, step, steps=10)
        outcomes.append(gradients(model[1](*leaves, True), leaves, g))
    exact = gradients(plain[1](*leaves, True), leaves, g)
    early, late = outcomes
    assert not torch.equal(early[1], late[1])
    if isinstance(schedule, LastStage):
        assert all(torch.equal(a, b) for a, b in zip(late, exact, strict=True))
    else:
        assert torch.equal(early[0], late[0])
        distance = [(x[3] - exact[3]).norm() for x in (early, late)]  # dV: exact but for P, which S's error moves
        assert distance[1] < distance[0]


def test_training_with_quantized_products_learns() -> None:
    torch.manual_seed(0)
    model = quantize_(NETS["gpt"](), override(RECIPES["nvfp4"], "attention", "same"), exempt=["head"])
    tokens = torch.arange(17).remainder(11).expand(4, -1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(30):
        set_clock(model, seed=0, step=step)
        loss = nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2
    assert losses[-1] < 0.5 * losses[0]
