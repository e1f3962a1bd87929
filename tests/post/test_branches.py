"""Low-rank branches against the same approximations by another route, and the bits that they take."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dse import RECIPES, override, quantize_post
from dse.cost.overhead import breakdown
from dse.cost.shapes import LayerShape
from dse.errors import OptionError
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.random import Key
from dse.numerics.techniques.branches import BRANCHES, Lqer, SvdQuant, ThinFactors
from dse.numerics.techniques.post import Gptq, PostTraining, Rtn
from dse.post.layers import PostQuantizedLinear
from tests.post import reference
from tests.post.reference import Array
from tests.post.test_methods import SCALES, layer, same

KEY = Key(torch.tensor([0, 0]))
NVFP4 = RECIPES["nvfp4_plain"].fprop


def bf16(x: Array) -> Array:
    return np.asarray(torch.from_numpy(x).bfloat16().double().numpy())


def parts(method: PostTraining, w: torch.Tensor, x: torch.Tensor | None) -> tuple[Array, Array]:
    """f(R) or f(W), and the branch."""
    made = method.make(NVFP4, w, None if x is None else InputStatistics.of(x), KEY)
    assert made.low_rank is not None
    for factor in made.low_rank:
        assert torch.equal(factor, factor.bfloat16().float())
    return made.weight.dequantize().double().numpy(), made.low_rank.whole(w.double()).numpy()


def near(found: Array, expected: Array) -> None:
    """But for the rounding of factors to BF16: 2^-9 of each, in every term."""
    assert np.linalg.norm(found - expected) < 2**-7 * np.linalg.norm(expected)


def test_lqer() -> None:
    w, x = layer(n=24)
    wide, rows = w.double().numpy(), x.double().numpy()
    rounded = reference.rounded(wide, SCALES["nvfp4_plain"](wide))
    error = wide - rounded
    for weighted in (False, True):
        weight, branch = parts(Rtn(branch=Lqer(4, weighted)), w, x if weighted else None)
        same(weight, rounded)
        s = np.abs(rows).mean(0) if weighted else np.ones(64)
        near(branch, reference.low_rank(error * s, 4) / s)
    losses = [
        np.square((rounded + own - wide) @ rows.T).sum()
        for own in (*(parts(Rtn(branch=Lqer(r)), w, x)[1] for r in (24, 8, 2)), 0)
    ]
    assert losses == sorted(losses)
    assert losses[0] < 1e-3 * losses[-1]


def test_svdquant() -> None:
    w, x = layer(1, n=24)
    wide = w.double().numpy()
    weight, branch = parts(Rtn(branch=SvdQuant(4)), w, None)
    near(branch, reference.low_rank(wide, 4))
    left = (w.double() - torch.from_numpy(branch).float().double()).float().double().numpy()
    np.testing.assert_allclose(weight, reference.rounded(left, SCALES["nvfp4_plain"](left)), atol=1e-6)
    errors = []
    for iterations in (1, 2, 10):
        weight, branch = parts(Rtn(branch=SvdQuant(4, iterations)), w, None)
        errors.append(np.linalg.norm(wide - weight - branch))
    assert errors[0] >= errors[1] >= errors[2] != errors[0]
    statistics = InputStatistics.of(x)
    compensated, direct = (
        own.make(NVFP4, w, statistics, KEY) for own in (Gptq(branch=SvdQuant(4)), Rtn(branch=SvdQuant(4)))
    )
    losses = []
    for made in (compensated, direct):
        assert made.low_rank is not None
        off = made.weight.dequantize() + made.low_rank.whole(w) - w
        losses.append(float((off @ x.T).square().sum()))
    assert losses[0] < losses[1]


def test_a_layer_adds_its_branch() -> None:
    """In a model, with balance and rotation: the branch takes what the quantized product takes, in BF16."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(64, 48)), torch.randn(200, 64)
    recipe = override(RECIPES["nvfp4_plain"], "fprop.rotation", {"hadamard": {"size": 16, "signs": "none"}})
    for name in BRANCHES:
        rank = {"rank": 8}
        method = {"gptq": {"balance": "smoothquant", "branch": {name: rank}}}
        made = quantize_post(model, method, [x], recipe)
        own = made[0]
        assert isinstance(own, PostQuantizedLinear)
        assert own.up is not None
        assert own.down is not None
        assert own.balance is not None
        assert own.beside == 16 * 8 * (64 + 48)
        turned = own.gemm.turn(x / own.balance, own.basis)
        thin = (turned.bfloat16().float() @ own.down.mT).bfloat16().float()
        expected = own.gemm.lhs(turned).dequantize() @ (own.weight * own.alpha).mT + thin @ own.up.mT + own.bias
        torch.testing.assert_close(made(x), expected, rtol=1e-5, atol=1e-5)
        exact, plain = model(x).detach(), quantize_post(model, {"gptq": {"balance": "smoothquant"}}, [x], recipe)
        assert (made(x) - exact).norm() < (plain(x) - exact).norm()


def test_cost() -> None:
    shape = LayerShape("layer", 1024, 256, 512)
    recipe = override(RECIPES["nvfp4_plain"], "post", {"rtn": {"branch": {"svdquant": {"rank": 16}}}})
    (row,) = (row for row in breakdown(recipe, shape) if row.technique == "low-rank branch")
    assert row.matrix == 2 * 1024 * 16 * (256 + 512)
    assert SvdQuant(16).bits(512, 256) == 16 * 16 * (256 + 512)
    assert ThinFactors.of(torch.ones(3, 1), torch.ones(1, 2)).whole(torch.ones(1)).shape == (3, 2)
    for cls in BRANCHES.values():
        with pytest.raises(OptionError, match="rank must be at least 1, not 0"):
            cls(rank=0)
