"""With constant scales a block quantizer's gradient is a formula per element: autograd's bits, without a graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, SCALES
from dse.numerics.quantizer import Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.choices import IF4, FourOverSix
from dse.numerics.techniques.conventions import Decode, Encode
from dse.numerics.techniques.outliers import Asymmetric, Clamp
from dse.numerics.techniques.rounding import Stochastic, TowardZero
from dse.numerics.techniques.slopes import DGE, Sigmoid, Spline, StraightThrough
from dse.numerics.techniques.statistics import Quest
from dse.numerics.techniques.tensor_scales import Current, Delayed, Outer
from tests.kernels.cases import clock, operands, same

BASE = BlockQuantizer(scale=SCALES["ue4m3"], block=16, slope=DGE())
MASK = StraightThrough(outside="zero")


def quantizers() -> Iterator[tuple[str, BlockQuantizer]]:
    for slope in (
        DGE(),
        DGE(2.0, normalized=False, outside="zero"),
        Sigmoid(),
        Spline(),
        Spline(7, outside="zero"),
        MASK,
    ):
        yield f"{slope}", replace(BASE, slope=slope)
        yield f"{slope} e4m3", replace(BASE, slope=slope, element=ELEMENTS["e4m3"], tensor_scale=Current())
    yield "unquantized", replace(BASE, slope=StraightThrough(), convention=Decode(encode_with="unquantized"))
    yield "encode", replace(BASE, convention=Encode(), tensor_scale=Current())
    yield "encode one", replace(BASE, convention=Encode(True, "one", "unquantized"), tensor_scale=Current(), gain=0.75)
    yield "gain", replace(BASE, gain=0.75)
    yield "gain, tensor scale", replace(BASE, gain=0.75, tensor_scale=Delayed(3), scale_rounding=Stochastic())
    yield "outer", replace(BASE, gain=0.75, tensor_scale=Outer(2))
    yield "flush", replace(BASE, convention=Decode("flush"), scale=SCALES["ue5m2"])
    yield "e8m0", replace(BASE, scale=SCALES["e8m0"], scale_rounding=TowardZero(), constant=4.0, slope=MASK)
    yield "quest", replace(BASE, statistic=Quest(centered=True), scale=SCALES["e8m0"], slope=MASK)
    yield "rows", replace(BASE, block=0, scale=SCALES["fp32"])
    yield "tensor", replace(BASE, block=0, tile=0, scale=SCALES["fp32"])
    yield "tiles of 3 x 5", replace(BASE, block=5, tile=3)
    yield "four over six", replace(BASE, choice=FourOverSix(), tensor_scale=Current(256.0), rounding=Stochastic())
    yield "if4", replace(BASE, choice=IF4(), tensor_scale=Current(), slope=MASK)
    yield "asymmetric", replace(BASE, outliers=Asymmetric())
    yield "clamp", replace(BASE, outliers=Clamp(0.9))
    yield "clamp, dropped", replace(BASE, outliers=Clamp(0.9, compensate=False), slope=StraightThrough())


def differing(quantizer: BlockQuantizer, x: Tensor, g: Tensor) -> bool:
    key = Key(clock(len(x)), 3, 0, memory=torch.zeros(len(x), 6))
    formula = quantizer.vjp(x, g, key)
    return not same(formula, Quantizer.vjp(quantizer, x, g, replace(key, memory=torch.zeros(len(x), 6))))


@pytest.mark.parametrize(("name", "quantizer"), quantizers())
def test_the_formula_gives_autograds_bits(name: str, quantizer: BlockQuantizer) -> None:
    assert quantizer.constant_scales
    assert not quantizer.straight_through
    wrong = []
    for kind, x in operands(2, 7, 34):
        g = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
        g[:, 3, ::3], g[:, 2, 1::5] = 0.0, -0.0
        if differing(quantizer, x.float(), g):
            wrong.append(kind)
    assert not wrong


@pytest.mark.parametrize("change", [{"scale_gradient": "full"}, {"tensor_scale": Current(through="exact")}], ids=str)
def test_gradients_through_a_scale_are_autograds(change: dict[str, object]) -> None:
    """They are no formula per element: the sum over the block takes part."""
    quantizer = replace(BASE, **change)  # type: ignore[arg-type]
    assert not quantizer.constant_scales
    x = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    g = torch.ones_like(x)
    found, constant = quantizer.vjp(x, g), BASE.vjp(x, g)
    assert torch.equal(found, Quantizer.vjp(quantizer, x, g))
    assert not torch.equal(found, constant)
