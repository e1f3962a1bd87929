"""M-ANT's grid and scale per group against a NumPy search a group at a time, and what it makes of models and costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dse import RECIPES, Recipe, override, quantize_post
from dse.cost.shapes import LayerShape
from dse.cost.storage import weight_bits
from dse.errors import OptionError
from dse.numerics.fixed_scales import FixedScales
from dse.numerics.grid import round_to_grid
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.random import Key
from dse.numerics.stored_bits import stored_bits
from dse.numerics.techniques.post import Gptq, PostTraining, Rtn
from dse.numerics.techniques.scale_searches import Mant
from dse.numerics.techniques.scale_searches.mant import mant_format
from dse.post.layers import PostQuantizedLinear
from tests.post import reference
from tests.post.test_methods import layer, same

KEY = Key(torch.tensor([0, 0]))
FEW = (0, 17, 60)


def recipe(element: str = "int4", scale: str = "fp32") -> Recipe:
    """Groups of 64, INT8 activations."""
    w, x = ({"block": {"element": own, "scale": scale, "block": 64}} for own in (element, "int8"))
    return override(override(RECIPES["bf16"], "fprop.rhs", w), "fprop.lhs", x)


def weights(seed: int = 0, k: int = 150) -> tuple[torch.Tensor, torch.Tensor]:
    """Groups of several distributions: even, normal, with long tails."""
    w, x = layer(seed, n=9, k=k)
    draw = torch.Generator().manual_seed(seed)
    w[:3], w[3:6] = torch.rand(3, k, generator=draw) - 0.5, torch.randn(3, k, generator=draw)
    return w, x


def test_grids() -> None:
    for a, expected in ((0, [1, 2, 4, 8, 16, 32, 64, 128]), (17, [1, 19, 38, 59, 84, 117, 166, 247])):
        fmt = mant_format(a)
        assert (fmt.values[8:], fmt.bits, fmt.max) == (tuple(expected), 4, expected[-1])
        u = torch.cat([torch.linspace(-1.1, 1.1, 999) * fmt.max, torch.tensor([0.3, -0.3, 1.5, -1.5, torch.inf])])
        ends = u.clamp(-fmt.max, fmt.max).numpy()
        same(round_to_grid(u, fmt).numpy(), reference.by_distance(ends, np.array(fmt.values)))
        assert round_to_grid(torch.tensor([torch.nan]), fmt).isnan()


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_grid_and_scale_of_each_group(given: bool, weighted: bool) -> None:
    w, x = weights()
    wide, rows = w.double().numpy(), x.double().numpy()
    h = np.square(rows).sum(0) if weighted else np.ones(w.shape[1])
    search, inputs = Mant(FEW, given, weighted), InputStatistics.of(x)
    kinds = reference.mant(wide, 64, list(FEW), given, h)
    assert len(np.unique(kinds[..., 1])) == 3 + given
    made = Rtn(scales=search).make(recipe().fprop, w, inputs, KEY)
    same(made.weight.dequantize().double().numpy(), reference.mant_rounded(wide, kinds))
    assert made.bits == Rtn(scales=search).beside(recipe().fprop, 9, 150) == 8 * 9 * 3
    found = Gptq(scales=search).quantize(recipe().fprop.rhs, w, inputs, KEY).values.double().numpy()
    same(found, reference.gptq(wide, rows, kinds, 0.01, True, reference.mant_rounded))


def test_columns_are_those_of_the_whole_bit_for_bit() -> None:
    w, x = weights(2)
    w[2, 7], w[3, 8], w[5, 9] = 0.0, -0.0, torch.nan
    scales = Mant().scales(recipe().fprop.rhs, w, InputStatistics.of(x))  # type: ignore[arg-type]
    assert len(scales.chosen.unique()) > 5
    for u in (w, w.double() * 1.5):
        whole = scales.round(u).values
        for j in range(w.shape[1]):
            torch.testing.assert_close(scales.column(u[:, j], j), whole[:, j], rtol=0, atol=0, equal_nan=True)


def test_the_error_is_never_larger_and_groups_of_zeros_stay_zero() -> None:
    w, x = weights(1)
    w[4, :64] = 0
    inputs, quantizer = InputStatistics.of(x), recipe(scale="bf16").fprop.rhs

    def errors(method: PostTraining) -> torch.Tensor:
        q = method.quantize(quantizer, w, inputs, KEY).dequantize()
        assert not q[4, :64].any()
        return (q - w).double().square()[:, :64].sum(1)

    plain, adaptive = errors(Rtn()), errors(Rtn(scales=Mant()))
    assert (adaptive <= plain).all()
    assert (adaptive < plain).sum() >= 6
    errors(Rtn(scales=Mant(given=False)))
    errors(Gptq(scales=Mant(FEW)))


def test_in_a_model_and_its_bits() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(128, 32)), torch.randn(300, 128)
    model[0].weight.data.normal_().pow_(3)
    method = {"rtn": {"scales": {"mant": {"coefficients": [0, 17, 60]}}}}
    own = recipe(scale="bf16")
    made, plain, exact = quantize_post(model, method, None, own), quantize_post(model, "rtn", None, own), model(x)
    inner = made[0]
    assert isinstance(inner, PostQuantizedLinear)
    assert isinstance(inner.bias, nn.Parameter)
    torch.testing.assert_close(made(x), inner.gemm.lhs(x).dequantize() @ inner.weight.mT + inner.bias)
    assert (made(x) - exact).norm() < 0.8 * (plain(x) - exact).norm()
    bits = stored_bits(inner.gemm.rhs, 32, 128) + inner.beside / (32 * 128)
    assert bits == 4 + 16 / 64 + 8 / 64 == weight_bits(override(own, "post", method), [LayerShape("layer", 1, 128, 32)])


def test_what_it_needs() -> None:
    groups, mant = recipe(), {"rtn": {"scales": "mant"}}
    for method, own, text in (
        (mant, recipe("int8"), "mant has grids of 4 bits, and fprop.rhs.element is int8; set int4"),
        (mant, RECIPES["four_over_six"], "chooses one scale per block"),
        (mant, RECIPES["nvfp4_plain"], "leave fprop.rhs.tensor_scale at its default"),
        (mant, RECIPES["mxfp4"], "leave fprop.rhs.constant at its default"),
        (mant, override(groups, "fprop.rhs.gain", 0.75), "leave fprop.rhs.gain at its default"),
        ({"adaround": {"scales": "mant"}}, groups, "adaround rounds to one format's grid"),
        ({"fpq": {"scales": "mant"}}, groups, "fpq searches the scales of W and X itself"),
        ({"rtn": {"scales": {"mant": {"coefficients": []}}}}, groups, "coefficients must be a list of integers"),
        (
            {"rtn": {"scales": {"mant": {"coefficients": [128]}}}},
            groups,
            "coefficients must be a list of integers",
        ),
    ):
        with pytest.raises(OptionError, match=text):
            quantize_post(nn.Sequential(nn.Linear(4, 4)), method, [torch.ones(8, 4)], own)
    assert not Rtn(scales=Mant()).calibrates
    assert Rtn(scales=Mant(weighted=True)).calibrates
    assert FixedScales.of(groups.fprop.rhs, torch.ones(2, 4)).elements[0].name == "int4"  # type: ignore[arg-type]
