"""Derivatives beyond the grid of combinations: formats, saturation, ties, zeros, tiny blocks, outliers."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, SCALES, UE4M3, UE5M3
from dse.numerics.random import key
from dse.numerics.techniques.choices import IF4, Choice, FourOverSix, ScaleSweep
from dse.numerics.techniques.conventions import Convention, Decode, Encode
from dse.numerics.techniques.outliers import Asymmetric, Clamp
from dse.numerics.techniques.slopes import DGE, STRAIGHT_THROUGH, StraightThrough
from dse.numerics.techniques.statistics import STATISTICS, AbsMax, HardSoft, Quest, SoftSoft
from dse.numerics.techniques.tensor_scales import Current, Delayed
from tests.gradients.finite import HeldScale, derivative, found_jacobian, measure_parts, operand, relative
from tests.gradients.stairs import PAIRS, Line, Wave, WaveSlope, smooth, stairs  # noqa: F401

pytestmark = pytest.mark.usefixtures("stairs")
BASE = BlockQuantizer(scale=UE5M3, block=4, tile=2, constant=4.7, scale_gradient="full", **smooth())
ONE = torch.ones(1, 8)


def agrees(q: BlockQuantizer, x: Tensor) -> bool:
    return relative(found_jacobian(q, x), measure_parts(q, x).expected(q.scale_gradient, "ignore")) < 1e-6


def black_box(q: BlockQuantizer, x: Tensor) -> Tensor:
    """df_i/dx_j as [j, i] of the whole function, nothing held."""
    return derivative(q.dequantized, x).flatten(1)


@pytest.mark.parametrize(("element", "scale"), product(PAIRS, PAIRS))
def test_every_pair_of_slopes(element: str, scale: str) -> None:
    q = replace(BASE, statistic=SoftSoft(3.0), **smooth(element, scale))
    assert agrees(q, operand(q, 3, 10))


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("scale", [s for s in SCALES if s != "fp32"])
def test_every_pair_of_formats(element: str, scale: str) -> None:
    """FP32's list of values is too long for the stairs; its cast is the same code."""
    fmt = ELEMENTS[element]
    q = replace(BASE, element=fmt, scale=SCALES[scale], constant=0.6 * fmt.max)
    x = operand(q, 3, 10)
    assert agrees(q, x)
    assert relative(found_jacobian(q, x), black_box(q, x)) < 1e-6


@pytest.mark.parametrize(("block", "tile"), [(4, 1), (4, 0), (0, 1), (0, 0), (1, 1), (3, 2), (16, 4)])
def test_every_shape_of_block(block: int, tile: int) -> None:
    """Per token (0, 1), per tensor (0, 0), blocks of one, and blocks larger than the operand."""
    q = replace(BASE, block=block, tile=tile, statistic=SoftSoft(3.0))
    x = operand(q, 3, 10)
    assert relative(found_jacobian(q, x), black_box(q, x)) < 1e-6
    filled = replace(q, block=block or 10, tile=tile or 3)
    for how in ("constant", "diagonal"):
        assert agrees(replace(filled, scale_gradient=how), x)
    assert torch.equal(found_jacobian(q, x), found_jacobian(filled, x))


@pytest.mark.parametrize("outside", ["pass", "zero"])
def test_beyond_the_range(outside: str) -> None:
    """QuEST's clip below the maximum: what saturates has slope 1 or 0, and its share in the scale's gradient."""
    smooth_options = smooth() | {"rounding": Wave(outside=outside), "slope": WaveSlope(outside=outside)}
    q = replace(BASE, statistic=Quest(1.5), constant=None, **smooth_options)
    x = operand(q, 3, 10)
    u = found_jacobian(replace(q, scale_gradient="constant", slope=StraightThrough(outside)), x).diag()
    assert 0 < (u == 0).sum() < 30 if outside == "zero" else bool((u == 1).all())
    assert agrees(q, x)


def test_gain_cancels_in_the_derivative() -> None:
    q = replace(BASE, gain=0.75, statistic=SoftSoft(3.0))
    x = operand(q, 3, 10)
    assert relative(found_jacobian(q, x), black_box(q, x)) < 1e-6


@pytest.mark.parametrize("choice", [FourOverSix(), FourOverSix("max"), IF4("mae"), ScaleSweep(-1, 2)], ids=str)
@pytest.mark.parametrize("scale", [None, Current(256.0)], ids=["one level", "tensor scale"])
@pytest.mark.parametrize("convention", [Decode(), Encode(), Encode(divisor=True)], ids=["decode", "encode", "divisor"])
def test_a_choice_differentiates_its_winner(choice: Choice, scale: Current | None, convention: Convention) -> None:
    q = replace(BASE, constant=None, choice=choice, tensor_scale=scale, convention=convention, statistic=SoftSoft(3.0))
    if isinstance(choice, ScaleSweep):  # moves along codes: its scale is a step, the derivative that of the rounded one
        q = replace(q, scale_gradient="constant", scale_rounding=BlockQuantizer().scale_rounding)
    x = torch.randn(3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    held = replace(q, scale_gradient="constant")
    alone = found_jacobian(replace(held, choice=None), x)
    assert (found_jacobian(held, x) - alone).abs().max() > 1e-3  # another candidate does win somewhere
    if q.scale_gradient == "full" and scale is None:
        assert relative(found_jacobian(q, x), black_box(q, x)) < 1e-6


def test_equal_maxima_have_one_heir() -> None:
    """The first of the largest elements carries the derivative of Z, so that scaling a whole block scales f."""
    x = torch.tensor([[1.0, -2.0, 2.0, 0.5, 1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    q = replace(BASE, tile=1)
    found = found_jacobian(q, x)
    assert (found - found_jacobian(replace(q, scale_gradient="constant"), x)).abs().sum(
        -1
    ).nonzero().flatten().tolist() == [1, 4]
    held = replace(q, scale_gradient="constant")
    ignored, exact = (found_jacobian(replace(held, tensor_scale=Current(17.3, how)), x) for how in ("ignore", "exact"))
    assert (exact - ignored).abs().sum(-1).nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("convention", [Decode(), Decode("smallest"), Encode(), Encode(True)], ids=str)
@pytest.mark.parametrize("scale", ["e8m0", "ue4m3", "ue5m3", "fp32"])
def test_zeros_and_tiny_blocks_have_finite_derivatives(scale: str, convention: Convention, statistic: str) -> None:
    """A block of zeros is differentiated like any other, by Q'(0) = 1/k; else zero weights would never leave zero."""
    q = BlockQuantizer(scale=SCALES[scale], block=4, convention=convention, statistic=STATISTICS[statistic]())
    x = torch.zeros(1, 12)
    x[0, 4:] = torch.tensor([1e-30, -3e-31, 0, 1e-36, 1.0, 0, 0.3, 0])
    g = torch.linspace(-1, 2, 12)[None]
    for scaled, gradient in product((None, Current(256.0, "exact")), ("full", "diagonal", "constant")):
        options = {"tensor_scale": scaled, "scale_gradient": gradient, "slope": DGE()}
        found = replace(q, **options).vjp(x, g)
        assert found.isfinite().all(), options
        torch.testing.assert_close(found[0, :4], g[0, :4] / 5, rtol=1e-5, atol=0)
        everything = replace(q, **options).vjp(torch.zeros_like(x), g)
        torch.testing.assert_close(everything, g / 5, rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [None, Current()], ids=["one level", "tensor scale"])
def test_flushed_blocks_are_differentiated_as_with_the_straight_through_shortcut(scale: Current | None) -> None:
    """A scale that underflows makes a block 0; a slope of 1 still passes g, which is what skipping the work does."""
    x = torch.cat([ONE * 1e-9, ONE], 1)
    q = BlockQuantizer(scale=UE4M3, block=8, tensor_scale=scale)
    assert not q.dequantized(x)[0, :8].any()
    g = torch.linspace(-1, 2, 16)[None]
    assert q.vjp(x, g) is g
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(q.dequantized(leaf), leaf, g)[0], g)
    dequantized = replace(q, scale_gradient="full").dequantized(leaf)
    assert torch.equal(dequantized, q.dequantized(x))


@pytest.mark.parametrize("gradient", ["constant", "full", "diagonal"])
def test_asymmetric_scales(gradient: str) -> None:
    """Two quantizers, one of the positive and one of the negative elements; a zero belongs to one of them."""
    q = replace(BASE, scale_gradient=gradient, tile=1)
    x = operand(replace(q, outliers=Asymmetric()), 2, 8)
    found = found_jacobian(replace(q, outliers=Asymmetric()), x)
    positive, negative = found_jacobian(q, x.clamp_min(0)), found_jacobian(q, x.clamp_max(0))
    expected = torch.where(x.flatten()[:, None] > 0, positive, negative)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    with_zero = x.clone()
    with_zero[0, 3] = 0
    assert found_jacobian(replace(q, outliers=Asymmetric()), with_zero)[3, 3] == pytest.approx(1 - 0.7)  # Wave at 0


@pytest.mark.parametrize("compensate", [False, True])
def test_clamped_outliers(compensate: bool) -> None:
    """Within the bounds, the bounds included: f'. Beyond: nothing, or, compensated, exactly g (not g in BF16)."""
    outliers = Clamp(0.8, compensate)
    q = replace(BASE, scale_gradient="constant")
    generator = torch.Generator().manual_seed(0)
    x, g = torch.randn(2, 1, 21, dtype=torch.float64, generator=generator)  # 0.8 * 20 is whole: bounds are elements
    low, high = torch.quantile(x, 0.2), torch.quantile(x, 0.8)
    assert int((x == high).sum()) == int((x == low).sum()) == 1
    inner = q.vjp(x.clamp(low, high), g)
    outer = g if compensate else torch.zeros_like(g)
    expected = torch.where((x >= low) & (x <= high), inner, outer)
    torch.testing.assert_close(replace(q, outliers=outliers).vjp(x, g), expected, rtol=1e-12, atol=1e-12)


def test_a_held_tensor_scale_has_no_gradient() -> None:
    """Delayed: the reference in the layer's memory, whatever the operand's own maximum."""
    q = replace(BASE, tensor_scale=Delayed(50, 17.3))
    memory = torch.tensor([1.0, 2.5, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    at = replace(key(step=7, point=1), memory=memory, sampling=False)  # a stack of operands samples nothing
    x = operand(q, 3, 10, key=at)
    held = replace(q, tensor_scale=HeldScale(torch.full((1, 1, 1, 1), 2.5, dtype=torch.float64), 17.3))
    assert torch.equal(found_jacobian(q, x, at), found_jacobian(held, x))
    assert relative(found_jacobian(q, x, at), black_box(held, x)) < 1e-6


def test_every_statistic_was_looked_at() -> None:
    """A new statistic needs its formula in tests/gradients/finite.py and a place in the grid of combinations."""
    assert set(STATISTICS.values()) == {AbsMax, HardSoft, SoftSoft, Quest}
    assert isinstance(PAIRS["straight_through"][0], Line)
    assert STRAIGHT_THROUGH.is_identity
