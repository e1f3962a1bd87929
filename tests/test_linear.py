"""The quantized linear: bit-equal to ``nn.Linear`` without quantization, and with it what it claims to be."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear as plain_linear

from dse.nn.linear import quantized_linear
from dse.nn.quantize import quantize_, set_clock
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.points import Point
from dse.numerics.quantizer import Identity
from dse.numerics.random import Key
from dse.numerics.recipe import Exempt, Recipe
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import Rounding, Stochastic
from dse.numerics.techniques.statistics import SoftSoft
from dse.numerics.techniques.tensor_scales import Current
from dse.recipes import RECIPES
from tests.fd import SMOOTH, Wave
from tests.quantizers import normal

FP32, BF16 = RECIPES["fp32"], RECIPES["bf16"]
CLOCK = torch.tensor([3, 7])


def run(module: nn.Module, x: Tensor, g: Tensor) -> list[Tensor]:
    """Y, dX, dW (and db) of one linear; x keeps its memory layout."""
    module.zero_grad()
    x = x.detach().requires_grad_()
    y = module(x)
    y.backward(g)
    return [y.detach(), x.grad, *(p.grad for p in module.parameters())]  # type: ignore[list-item]


def pair(k: int, n: int, bias: bool, recipe: Recipe = FP32) -> tuple[nn.Module, nn.Module]:
    """A linear and its quantized twin, whichever layers the recipe exempts."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(k, n, bias=bias))
    return plain, quantize_(copy.deepcopy(plain), replace(recipe, exempt=Exempt()))


SHAPES = [
    ((64,), 32, 48),
    ((1,), 32, 48),  # one row
    ((7,), 33, 19),
    ((1000,), 300, 77),
    ((128,), 1024, 256),
    ((512,), 512, 1),  # one output
    ((4, 16), 32, 48),  # sequences
    ((1, 7), 33, 19),
    ((3, 1), 64, 64),
    ((2, 3, 5), 40, 24),
    ((), 16, 8),  # a single vector
    ((0,), 16, 8),
    ((2, 0), 16, 8),
]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("lead", "k", "n"), SHAPES, ids=str)
def test_the_identity_recipe_is_a_plain_linear_bit_for_bit(lead: tuple[int, ...], k: int, n: int, bias: bool) -> None:
    """Y, dX, dW and db. With a bias, Y is X W^T + b, rounded twice or (fused, as in addmm) once."""
    plain, ours = pair(k, n, bias)
    x, g = normal(*lead, k), normal(*lead, n, seed=1)
    expected, found = run(plain, x, g), run(ours, x, g)
    for name, a, b in zip(("dX", "dW", "db"), found[1:], expected[1:], strict=False):
        assert torch.equal(a, b), name
    two_step = plain_linear(x, plain[0].weight) + (plain[0].bias if bias else 0)
    assert torch.equal(found[0], expected[0]) or (bias and torch.equal(found[0], two_step))
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["slice", "every other row", "batch second", "expanded gradient"])
def test_the_identity_recipe_in_any_memory_layout(layout: str) -> None:
    plain, ours = pair(48, 40, bias=False)
    x, g = normal(6, 10, 48), normal(6, 10, 40, seed=1)
    if layout == "slice":
        x = normal(6, 10, 100)[..., 3:51]
    if layout == "every other row":
        x = normal(12, 10, 48)[::2]
    if layout == "batch second":
        x, g = normal(10, 6, 48).transpose(0, 1), normal(10, 6, 40, seed=1).transpose(0, 1)
    if layout == "expanded gradient":
        g = torch.ones(()).expand(6, 10, 40)
    for a, b in zip(run(ours, x, g), run(plain, x, g), strict=True):
        assert torch.equal(a, b)


def test_a_column_major_input() -> None:
    """For X stored column by column, torch computes dX as (W^T G^T)^T: the same sums, in an order of its own."""
    plain, ours = pair(48, 40, bias=False)
    x, g = normal(48, 64).T, normal(64, 40, seed=1)
    (y, dx, dw), (y2, dx2, dw2) = run(ours, x, g), run(plain, x, g)
    assert torch.equal(y, y2)
    assert torch.equal(dw, dw2)
    torch.testing.assert_close(dx, dx2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 32, 48), (33, 20, 7), (1, 5, 3)], ids=str)
def test_bf16_rounds_operands_and_accumulates_in_fp32(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    _, ours = pair(k, n, False, BF16)
    x, g = normal(m, k), normal(m, n, seed=1)
    w = ours[0].weight.detach()
    rounded = [t.bfloat16().float() for t in (x, w, g)]
    y, dx, dw = run(ours, x, g)
    xr, wr, gr = rounded
    assert torch.equal(y, xr @ wr.T)
    assert torch.equal(dx, gr @ wr)
    assert torch.equal(dw, gr.T @ xr)


@pytest.mark.parametrize("signs", ["none", "fixed", "random"])
@pytest.mark.parametrize("shape", [(64, 32, 48), (37, 50, 19), (1, 5, 3)], ids=str)
def test_a_rotation_alone_changes_all_three_gemms_by_rounding_only(shape: tuple[int, int, int], signs: str) -> None:
    m, k, n = shape
    gemm = Gemm(rotation=Hadamard(32, signs))
    plain, ours = pair(k, n, False, Recipe(fprop=gemm, dgrad=gemm, wgrad=gemm))
    x, g = normal(m, k), normal(m, n, seed=1)
    found, expected = run(ours, x, g), run(plain, x, g)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= 1e-6 * b.norm()
        assert not torch.equal(a, b)  # it did rotate
    found = run(ours.double(), x.double(), g.double())
    expected = run(plain.double(), x.double(), g.double())
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= 1e-14 * b.norm()


@pytest.mark.parametrize("name", ["mxfp4", "mxfp4_rht_sr", "mxfp8", "nvfp4", "nvfp4_plain", "ue5m3"])
@pytest.mark.parametrize("shape", [(64, 32, 48), (37, 50, 19)], ids=str)
def test_a_straight_through_recipe_is_six_quantizations_and_three_products(
    name: str, shape: tuple[int, int, int]
) -> None:
    """By hand: Y = f0(X) f1(W)^T, dX = f2(G) f3(W^T)^T, dW = f4(G^T) f5(X^T)^T, rotated where the recipe says so."""
    m, k, n = shape
    recipe, layer = RECIPES[name], 0
    x, g = normal(m, k), normal(m, n, seed=1)
    _, model = pair(k, n, False, recipe)
    w = model[0].weight.detach()
    set_clock(model, *CLOCK.tolist())

    def product(gemm: Gemm, point: Point, a: Tensor, b: Tensor) -> Tensor:
        at = Key(CLOCK, layer, point)
        if gemm.rotation:
            signs, extra = gemm.rotation.basis(a, at.at(64 + point)), -a.shape[1] % gemm.rotation.size
            a, b = (gemm.rotation.turn(nn.functional.pad(t, (0, extra)), signs) for t in (a, b))
        return gemm.contract(gemm.lhs(a, at), gemm.rhs(b, at.at(point + 1)))

    y, dx, dw = run(model, x, g)
    assert torch.equal(y, product(recipe.fprop, Point.FPROP_LHS, x, w))
    assert torch.equal(dx, product(recipe.dgrad, Point.DGRAD_LHS, g, w.T))
    assert torch.equal(dw, product(recipe.wgrad, Point.WGRAD_LHS, g.T, x.T))


@pytest.mark.parametrize("rounding", [Wave(), Stochastic()], ids=["smooth", "stochastic"])
@pytest.mark.parametrize("rotation", [None, Hadamard(16, "fixed")], ids=["plain", "rotated"])
def test_other_slopes_go_through_the_forward_quantizers(rotation: Hadamard | None, rounding: Rounding) -> None:
    """dX and dW are pulled back through f0 and f1 in the rotated space, with the random bits of the forward pass."""
    options = SMOOTH | {"rounding": rounding, "statistic": SoftSoft(2.0), "scale_gradient": "full"}
    q = BlockQuantizer(E2M1, UE4M3, 8, tensor_scale=Current(through="exact"), **options)
    recipe = Recipe(fprop=Gemm(q, replace(q, block=4), rotation))
    x, w, g = (normal(*s, seed=i).double() for i, s in enumerate([(6, 20), (5, 20), (6, 5)]))
    x.requires_grad_()
    w.requires_grad_()
    found = torch.autograd.grad(quantized_linear(x, w, None, recipe, LinearContext(Key(CLOCK))), (x, w), g)

    leaves = [t.detach().requires_grad_() for t in (x, w)]
    gemm = recipe.fprop
    r = gemm.basis(x, Key(CLOCK))
    fx, fw = (
        f.dequantized(gemm.turn(t, r), Key(CLOCK, point=i))
        for i, (f, t) in enumerate(zip((gemm.lhs, gemm.rhs), leaves, strict=True))
    )
    outer = [gemm.turn(t, r) for t in (g @ w, g.mT @ x)]  # dgrad and wgrad themselves are exact in this recipe
    expected = torch.autograd.grad([fx, fw], leaves, outer)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.detach(), b, rtol=1e-10, atol=1e-12)


def test_backward_uses_the_clock_of_its_forward() -> None:
    q = BlockQuantizer(E2M1, UE4M3, 16, rounding=Stochastic())
    recipe = Recipe(dgrad=Gemm(q, Identity()), wgrad=Gemm(q, Identity(), Hadamard(16)))
    _, model = pair(32, 32, False, recipe)
    x, g = normal(8, 32), normal(8, 32, seed=1)
    set_clock(model, 1, 5)
    reference = run(model, x, g)
    for moved in (5, 6):
        model.zero_grad()
        set_clock(model, 1, 5)
        leaf = x.clone().requires_grad_()
        y = model(leaf)
        set_clock(model, 1, moved)
        y.backward(g)
        assert torch.equal(leaf.grad, reference[1])
        assert torch.equal(model[0].weight.grad, reference[2])
    model.zero_grad()
    set_clock(model, 1, 6)
    assert not torch.equal(run(model, x, g)[1], reference[1])  # another step, other draws


def test_gradients_that_nobody_asks_for() -> None:
    w, x, call = normal(8, 16).requires_grad_(), normal(4, 16), (RECIPES["nvfp4"], LinearContext(Key(CLOCK)))
    quantized_linear(x, w, None, *call).sum().backward()
    assert w.grad is not None
    frozen = w.detach()
    leaf = x.requires_grad_()
    quantized_linear(leaf, frozen, None, *call).sum().backward()
    assert leaf.grad is not None
    assert not quantized_linear(x.detach(), frozen, None, *call).requires_grad


EVERY = sorted(RECIPES)


@pytest.mark.parametrize("name", EVERY)
def test_autocast_does_not_reach_inside(name: str) -> None:
    """Operands and products under ``torch.autocast`` are those without it, forward and backward, bit for bit.

    Y is rounded to BF16 at the end, as a plain linear gives it there, and so is its gradient.
    """
    _, ours = pair(50, 24, True, RECIPES[name])
    set_clock(ours, 1, 2)
    x, g = normal(3, 7, 50), normal(3, 7, 24, seed=1).bfloat16().float()
    plain = run(ours, x, g)
    fresh = copy.deepcopy(ours)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x[0] @ x[0].mT).dtype == torch.bfloat16  # it is on
        set_clock(ours, 1, 2)
        inside = run(ours, x, g)  # a backward pass inside, too, which PyTorch advises against
        leaf = x.clone().requires_grad_()
        set_clock(fresh, 1, 2)
        fresh.zero_grad()
        y = fresh(leaf)
    y.backward(g)
    assert torch.equal(leaf.grad, plain[1])
    assert torch.equal(fresh[0].weight.grad, plain[2])
    assert inside[0].dtype == torch.bfloat16
    assert torch.equal(inside[0], plain[0].bfloat16())
    for a, b in zip(inside[1:], plain[1:], strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", EVERY)
def test_a_bf16_model_computes_in_fp32_and_returns_bf16(name: str) -> None:
    """Weights, inputs and gradients in BF16: the FP32 results of the same values, rounded once at the end."""
    _, ours = pair(50, 24, True, RECIPES[name])
    half = copy.deepcopy(ours).bfloat16()
    wide = copy.deepcopy(half).float()  # the same values
    x, g = normal(3, 7, 50).bfloat16(), normal(3, 7, 24, seed=1).bfloat16()
    for model in (half, wide):
        set_clock(model, 1, 2)
    found, expected = run(half, x, g), run(wide, x.float(), g.float())
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.bfloat16
        assert torch.equal(a, b.bfloat16())
    set_clock(half, 1, 2)
    y = half(x.float())  # a wider input is not narrowed by the weight
    assert y.dtype == torch.float32
    assert torch.equal(y, expected[0])


def test_bf16_operands_are_kept_as_they_came() -> None:
    """For the backward pass: no FP32 copies of a BF16 input or weight."""
    _, ours = pair(50, 24, True, RECIPES["nvfp4"])
    half, kept = copy.deepcopy(ours).bfloat16(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append((t.dtype, t.numel())) or t, lambda t: t):
        half(normal(3, 7, 50).bfloat16().requires_grad_())
    assert (torch.bfloat16, 3 * 7 * 50) in kept
    assert (torch.bfloat16, 24 * 50) in kept
    assert not [size for dtype, size in kept if dtype == torch.float32 and size > 1]


def test_autocast_feeds_bf16_activations_to_fp32_weights() -> None:
    """The usual mixed precision: master weights stay FP32 to the bit of their gradient, activations are BF16."""
    _, ours = pair(48, 40, True, RECIPES["nvfp4"])
    model = nn.Sequential(nn.Conv1d(8, 8, 1), ours)  # a convolution is one of autocast's BF16 operations
    x = normal(4, 8, 48)
    with torch.autocast("cpu", torch.bfloat16):
        middle = model[0](x)
        y = model(x)
    assert middle.dtype == y.dtype == torch.bfloat16
    (y.float() ** 2).sum().backward()
    grads = [p.grad for p in model.parameters()]
    assert all(p is not None and p.dtype == torch.float32 and bool(p.isfinite().all()) for p in grads)
    weight = ours[0].weight.grad
    assert not torch.equal(weight, weight.bfloat16().float())
