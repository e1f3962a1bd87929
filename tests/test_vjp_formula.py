"""With constant scales a block quantizer's gradient is a formula per element: autograd's bits, without a graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.quantizer import Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.outliers import Asymmetric, Clamp
from dse.numerics.techniques.slopes import StraightThrough
from dse.numerics.techniques.tensor_scales import Current
from tests.kernels.cases import clock, operands, same
from tests.kernels.gradient_cases import BASE, quantizers


def known() -> Iterator[tuple[str, BlockQuantizer]]:
    yield from quantizers()
    yield "asymmetric", replace(BASE, outliers=Asymmetric())
    yield "clamp", replace(BASE, outliers=Clamp(0.9))
    yield "clamp, dropped", replace(BASE, outliers=Clamp(0.9, compensate=False), slope=StraightThrough())


def differing(quantizer: BlockQuantizer, x: Tensor, g: Tensor) -> bool:
    key = Key(clock(len(x)), 3, 0, memory=torch.zeros(len(x), 6))
    formula = quantizer.vjp(x, g, key)
    return not same(formula, Quantizer.vjp(quantizer, x, g, replace(key, memory=torch.zeros(len(x), 6))))


@pytest.mark.parametrize(("name", "quantizer"), known())
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
