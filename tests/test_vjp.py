"""``Quantizer.vjp`` is the true derivative of f: measured by finite differences in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dse.block import BlockQuantizer
from dse.cast import cast
from dse.formats import E2M1, E4M3, E5M2, E8M0, FP32, UE4M3, UE5M3, Format
from dse.quantizer import BFloat16, Identity
from dse.random import key
from dse.recipes import RECIPES
from dse.techniques.rounding import Stochastic
from dse.techniques.statistics import ABSMAX
from dse.techniques.tensor_scales import Current
from tests.fd import (
    SMOOTH,
    HardMaximum,
    SoftMaximum,
    SoftReference,
    Wave,
    WaveSlope,
    difference,
    frozen,
    vjp_error,
)


def operand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("fmt", [E2M1, E4M3, E5M2, UE4M3, UE5M3, E8M0], ids=lambda f: f.name)
def test_the_derivative_of_a_cast_is_its_slope(fmt: Format) -> None:
    """Over every binade, subnormals and the saturated range included."""
    magnitude = 2.0 ** torch.linspace(
        max(fmt.emin - fmt.man - 1, -20), min(fmt.emax + 1.5, 20), 400, dtype=torch.float64
    )
    u = torch.cat([magnitude, -magnitude]) if fmt.signed else magnitude
    leaf = u.clone().requires_grad_()
    q = cast(leaf, fmt, Wave(), WaveSlope())
    (found,) = torch.autograd.grad(q.sum(), leaf)
    expected = difference(lambda at: cast(at, fmt, Wave(), WaveSlope()), u, u.abs(), 1e-7) / u.abs()
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("tile", [1, 2])
@pytest.mark.parametrize("scale", [UE4M3, UE5M3, E8M0], ids=lambda f: f.name)
@pytest.mark.parametrize("reference", [None, SoftReference()], ids=["one level", "tensor scale"])
@pytest.mark.parametrize("statistic", [SoftMaximum(), HardMaximum()], ids=["soft", "hard"])
def test_full_vjp_through_scale_statistic_and_tensor_scale(
    statistic: SoftMaximum | HardMaximum, reference: SoftReference | None, scale: Format, tile: int
) -> None:
    """Every entry of the Jacobian, off-diagonal ones included; 13 columns in blocks of 8, 3 rows in tiles of 2."""
    q = BlockQuantizer(
        E2M1, scale, block=8, tile=tile, constant=5.0, statistic=statistic, tensor_scale=reference, **SMOOTH
    )
    x = operand(3, 13)
    assert not q.straight_through
    assert vjp_error(q, x) < 1e-6
    ignored = replace(q, statistic=ABSMAX)
    assert vjp_error(ignored, x) > 1e-2  # the measurement sees a missing gradient


@pytest.mark.parametrize("reference", [None, Current()], ids=["one level", "tensor scale"])
def test_scale_treated_as_a_constant(reference: Current | None) -> None:
    """With absmax the derivative is that of f with its scales held: diagonal, Q'(u) at u = x / s."""
    smooth = {k: SMOOTH[k] for k in ("rounding", "slope")}
    q = BlockQuantizer(E2M1, UE4M3, block=8, constant=5.0, tensor_scale=reference, **smooth)
    x, g = operand(3, 13), operand(3, 13).cos()
    held = frozen(q, x)
    assert vjp_error(held, x) < 1e-6
    assert torch.equal(q.vjp(x, g), held.vjp(x, g))
    encode, _, _ = q.scales(q.statistic(q._blocked(x)))
    u = (q._blocked(x) * encode).flatten(-2).flatten(-3, -2)[..., :13]
    assert torch.allclose(q.vjp(x, g), g * WaveSlope()(u, E2M1), rtol=1e-12)


def test_straight_through_skips_the_work() -> None:
    x, g = operand(4, 32), operand(4, 32).sin()
    for q in (Identity(), BFloat16(), RECIPES["nvfp4"].dgrad.lhs, RECIPES["mxfp4"].fprop.lhs):
        assert q.straight_through
        assert q.vjp(x, g, key()) is g
    q = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current())
    leaf = x.clone().requires_grad_()
    q.dequantized(leaf).backward(g)  # and the long way agrees with what is skipped
    assert torch.allclose(leaf.grad, g, rtol=1e-12)


def test_the_same_random_bits_in_forward_and_vjp() -> None:
    """A slope that looks at the rounded point must meet the bits of the forward pass: vjp recomputes f from the key."""
    q = BlockQuantizer(E2M1, UE4M3, 16, rounding=Stochastic(), statistic=SoftMaximum())
    x, g = operand(4, 32), operand(4, 32).sin()
    assert torch.equal(q.vjp(x, g, key(step=3)), q.vjp(x, g, key(step=3)))
    assert not torch.equal(q.vjp(x, g, key(step=3)), q.vjp(x, g, key(step=4)))


def test_the_vjp_is_linear_and_leaves_no_graph() -> None:
    q = BlockQuantizer(E2M1, UE4M3, block=8, statistic=SoftMaximum(), **SMOOTH)
    x, a, b = operand(3, 13), operand(3, 13).sin(), operand(3, 13).cos()
    assert torch.allclose(q.vjp(x, 2 * a - b), 2 * q.vjp(x, a) - q.vjp(x, b), rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        assert not q.vjp(x.requires_grad_(), a).requires_grad


@pytest.mark.xfail(reason="0 * inf in the derivative of 1 / s_q; no registered statistic has a gradient yet")
@pytest.mark.parametrize("scale", [UE4M3, E8M0, FP32], ids=lambda f: f.name)
def test_zero_blocks_have_a_finite_derivative(scale: Format) -> None:
    """Zeros stay zero whatever the scale, so f is its straight-through slope there."""
    x = torch.zeros(2, 16, dtype=torch.float32)
    x[0, 9] = 1
    found = BlockQuantizer(E2M1, scale, 8, statistic=HardMaximum()).vjp(x, torch.ones(2, 16))
    assert torch.equal(found[x.view(2, 2, 8).abs().amax(-1).repeat_interleave(8, -1) == 0], torch.ones(24))
