"""The quantized convolution: torch's own without quantization, and with it a quantized linear over patches."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dse.nn.layers.convolutions import QuantizedGroupedConv2d
from dse.nn.linear import QuantizedConv2d
from dse.nn.quantize import after_step, before_step, quantize_, set_clock
from dse.nn.select import OTHERS
from dse.nn.unfold import Window, patches
from dse.numerics.recipe import Exempt
from dse.pack.grouping import unlabeled
from dse.pack.layer import PackLayer
from dse.pack.linear import PackedConv2d
from dse.recipes import RECIPES
from tests.quantizers import normal

SHAPES = {
    "3x3": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilation": {"kernel_size": (3, 2), "dilation": (2, 3), "padding": (1, 2)},
    "1x1": {"kernel_size": 1, "bias": False},
    "uneven": {"kernel_size": (2, 5), "stride": (3, 1), "padding": (0, 4)},
    "same": {"kernel_size": (4, 3), "padding": "same"},
    "valid": {"kernel_size": 2, "padding": "valid"},
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def conv(shape: str) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(6, 5, **SHAPES[shape])  # type: ignore[arg-type]


def run(module: nn.Module, x: Tensor, g: Tensor) -> list[Tensor]:
    """Y, dX, dW (and db)."""
    module.zero_grad()
    x = x.detach().requires_grad_()
    y = module(x)
    y.backward(g)
    return [y.detach(), x.grad, *(p.grad for p in module.parameters())]  # type: ignore[list-item]


@pytest.mark.parametrize("layout", ["plain", "channels last", "slice"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_identity_recipe_is_torchs_convolution(shape: str, layout: str) -> None:
    plain = nn.Sequential(conv(shape))
    ours = quantize_(copy.deepcopy(plain), RECIPES["fp32"])
    assert isinstance(ours[0], QuantizedConv2d)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    x = normal(3, 6, 11, 9)
    if layout == "channels last":
        x = x.to(memory_format=torch.channels_last)
    if layout == "slice":
        x = normal(3, 8, 13, 12)[:, 1:7, 2:, ::1][..., :9]
    g = normal(*plain(x).shape, seed=1)
    for a, b in zip(run(ours, x, g), run(plain, x, g), strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_patches_are_unfolded_images_and_their_transpose(shape: str) -> None:
    """Against F.unfold; and <patches x, g> = <x, patchesᵀ g>, exactly in whole numbers."""
    window = Window.of(conv(shape))
    x = torch.randint(-9, 9, (2, 6, 11, 9)).double().requires_grad_()
    rows = patches(x, window)
    unfolded = F.unfold(F.pad(x, window.padding), window.kernel, window.dilation, stride=window.stride)
    assert torch.equal(rows, unfolded.mT)
    assert rows.shape[1] == window.places(11, 9)[0] * window.places(11, 9)[1]
    g = torch.randint(-9, 9, rows.shape).double()
    (dx,) = torch.autograd.grad(rows, x, g)
    assert (rows * g).sum() == (x * dx).sum()
    assert torch.equal(dx, torch.autograd.grad(unfolded, x, g.mT)[0])


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4_rht_sr", "quartet", "wang_fp4"])
def test_it_is_a_quantized_linear_over_patches(name: str) -> None:
    """Y, dX and dW have the bits of autograd through F.unfold and the quantized linear of the flattened weight."""
    recipe = replace(RECIPES[name], exempt=Exempt())
    plain = conv("3x3")
    linear = nn.Linear(54, 5)
    linear.weight.data, linear.bias.data = plain.weight.data.flatten(1).clone(), plain.bias.data.clone()  # type: ignore[union-attr]
    expected = plain(normal(2, 6, 8, 8))
    ours, theirs = (quantize_(nn.Sequential(m), recipe) for m in (plain, linear))
    for model in (ours, theirs):
        set_clock(model, 3, 4)
    x, g = normal(2, 6, 8, 8), normal(2, 5, 8, 8, seed=1)
    y, dx, dw, db = run(ours, x, g)
    leaf = x.clone().requires_grad_()
    out = theirs(F.unfold(leaf, 3, padding=1).mT)
    out.backward(g.flatten(2).mT)
    assert torch.equal(y.flatten(2), out.mT)
    assert torch.equal(dx, leaf.grad)
    assert torch.equal(dw.flatten(1), linear.weight.grad)
    torch.testing.assert_close(db, linear.bias.grad)
    assert not torch.equal(y, expected)


def test_a_single_image_and_a_bf16_model() -> None:
    model = quantize_(nn.Sequential(conv("stride")), RECIPES["nvfp4"])
    x = normal(6, 11, 9)
    assert torch.equal(model(x), model(x[None])[0])
    assert model.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


def test_which_convolutions_are_quantized() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        conv("1x1"),
        nn.Linear(3, 3),
    )
    quantize_(model, RECIPES["nvfp4"], exempt=("3",))
    assert [type(m) for m in model] == [QuantizedGroupedConv2d, QuantizedGroupedConv2d, QuantizedConv2d, nn.Linear]
    assert [m.layer for m in model[:3]] == [OTHERS, OTHERS + 2, 0]  # a number for each group
    assert "kernel_size=(1, 1)" in repr(model[2])
    assert "recipe='nvfp4'" in repr(model[2])


def test_weight_rules_reach_the_kernel() -> None:
    """A rule that changes gradient and weight in place changes the convolution's own."""
    for name in ("tetrajet", "tetrajet2"):
        recipe = replace(RECIPES[name], exempt=Exempt())
        plain = nn.Sequential(conv("3x3"))
        model = quantize_(copy.deepcopy(plain), recipe)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for step in range(4):
            set_clock(model, 0, step, 4)
            optimizer.zero_grad()
            model(normal(2, 6, 8, 8, seed=step)).square().mean().backward()
            before_step(model)
            optimizer.step()
            after_step(model)
        assert model[0].weight.shape == plain[0].weight.shape
        assert model[0].weight.isfinite().all()


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_packed_convolution_has_the_bits_of_a_quantized_one(name: str) -> None:
    recipe = unlabeled(replace(RECIPES[name], exempt=Exempt(), layers=()))
    shape = list(SHAPES)[len(name) % len(SHAPES)]
    seeds = (5, 6, 9)
    plain = conv(shape)
    weights = normal(3, *plain.weight.shape, seed=2)
    biases = normal(3, 5, seed=3) if plain.bias is not None else None
    x = normal(3, 2, 6, 11, 9, seed=4)
    g = normal(3, *plain(x[0]).shape, seed=5)
    layer = PackLayer([recipe] * 3, weights.flatten(2), torch.tensor([[s, 3] for s in seeds]), 0, use_kernels=False)
    packed = PackedConv2d(plain)
    packed.layer = layer
    leaves = [t.clone().requires_grad_() for t in (x, weights, *([] if biases is None else [biases]))]

    def one(x: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(("weight", "bias"), parameters, strict=False))
        return torch.func.functional_call(packed, named, (x,))  # type: ignore[no-any-return]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = torch.vmap(one)(*leaves)
        found = torch.autograd.grad(y, leaves, g)
    for i, seed in enumerate(seeds):
        alone = conv(shape)
        alone.weight.data = weights[i].clone()
        if alone.bias is not None and biases is not None:
            alone.bias.data = biases[i].clone()
        model = quantize_(nn.Sequential(alone), recipe)
        set_clock(model, seed, 3)
        expected = run(model, x[i], g[i])
        assert torch.equal(y[i], expected[0])
        for what, mine, theirs in zip(("dX", "dW"), found, expected[1:], strict=False):
            assert torch.equal(mine[i], theirs), what
        if biases is not None:  # packs add its rows up in an order of their own
            torch.testing.assert_close(found[2][i], expected[3], rtol=1e-5, atol=1e-5)
