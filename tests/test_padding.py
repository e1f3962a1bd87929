"""Blocks that an operand does not fill: their padding has no part in any statistic, value or derivative."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from dse.nn.quantize import quantize_
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import FP32
from dse.numerics.random import key
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.slopes import DGE
from dse.numerics.techniques.statistics import STATISTICS, Quest, SoftSoft, Statistic
from dse.recipes import RECIPES
from tests.quantizers import normal

EVERY = [cls() for cls in STATISTICS.values()]


@pytest.mark.parametrize("statistic", EVERY, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("tile", [1, 4])
def test_the_last_block_is_a_block_of_what_it_holds(statistic: Statistic, tile: int) -> None:
    """A ragged operand's parts, each quantized as an operand whose blocks are as small as the part: value and vjp."""
    x, g = normal(10, 37) * 0.01, normal(10, 37, seed=1)
    for gradient in ("constant", "full", "diagonal"):
        q = BlockQuantizer(block=16, tile=tile, scale=FP32, statistic=statistic, scale_gradient=gradient, slope=DGE())
        whole, back = q.dequantized(x), q.vjp(x, g)
        for rows in (slice(0, 10 - 10 % tile), slice(10 - 10 % tile, 10)):
            for columns in (slice(0, 32), slice(32, 37)):
                part = x[rows, columns]
                if part.numel():
                    own = replace(q, tile=min(tile, part.shape[0]), block=min(16, part.shape[1]))
                    torch.testing.assert_close(whole[rows, columns], own.dequantized(part), rtol=1e-5, atol=1e-9)
                    expected = own.vjp(part, g[rows, columns])
                    torch.testing.assert_close(back[rows, columns], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("statistic", [Quest(), Quest(centered=True), SoftSoft()], ids=str)
def test_one_element_in_the_last_block(statistic: Statistic) -> None:
    """Z of one element alone is its magnitude (times the clip), however small; with 31 zeros it would not be."""
    x = normal(4, 33)
    x[:, 32] = torch.tensor([1.0, -0.3, 1e-3, 20.0])
    q = BlockQuantizer(block=32, statistic=statistic)
    z = q.trace(x).statistic[:, 0, 1, 0]
    clip = statistic.clip if isinstance(statistic, Quest) else 1.0
    torch.testing.assert_close(z, clip * x[:, 32].abs(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("k", [1, 2, 16, 31, 32, 33, 34, 63, 64, 65, 97])
def test_quartet_keeps_the_last_feature(k: int) -> None:
    """What it adds to the output, along what it should add, and the size of its weights' gradient."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(k, 8, bias=False))
    x, w = normal(256, k), model[0].weight.detach().clone()
    quantize_(model, RECIPES["quartet"])
    without = x.clone()
    without[:, -1] = 0
    share = x[:, -1:] @ w[:, -1:].T
    y = model(x)
    y.square().sum().backward()
    assert 0.75 < float(((y - model(without)).detach() * share).sum() / share.square().sum()) < 1.15
    gradients = model[0].weight.grad.norm(dim=0)
    assert 0.3 < float(gradients[-1] / gradients.mean()) < 2


@pytest.mark.parametrize("k", [1, 33, 65])
def test_a_block_with_one_feature_survives_a_hadamard(k: int) -> None:
    """Padded and rotated it is constant: no deviation, but a root mean square. So is the first of a full block."""
    quest = replace(RECIPES["quartet"].fprop, rotation=Hadamard(32, "none"))
    basis = quest.basis(torch.empty(1), key())
    for features in (range(k - 1, k), range(0, 32, 5)):
        for feature in features:
            x = torch.zeros(6, max(k, feature + 1))
            x[:, feature] = torch.tensor([1.0, -1.0, 0.3, 1e-3, 700.0, 2.0**-20])
            found = quest.back(quest.lhs(quest.turn(x, basis), key()).dequantize(), basis)[:, feature]
            assert ((found / x[:, feature] - 1).abs() < 0.3).all(), feature
