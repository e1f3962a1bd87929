"""``Quantizer.vjp`` is the true derivative of f: measured by finite differences in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.cast import cast
from dse.numerics.formats import E2M1, E4M3, E5M2, E8M0, FP32, UE4M3, UE5M3, Format
from dse.numerics.quantizer import BFloat16, Identity
from dse.numerics.random import key
from dse.numerics.techniques.conventions import Convention, Decode, Encode
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.slopes import DGE
from dse.numerics.techniques.statistics import ABSMAX, Quest, SoftSoft, Statistic
from dse.numerics.techniques.tensor_scales import Current
from dse.recipes import RECIPES
from tests.fd import SMOOTH, Wave, WaveSlope, difference, frozen, vjp_error


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
@pytest.mark.parametrize("reference", [None, Current(100.0, "exact")], ids=["one level", "tensor scale"])
@pytest.mark.parametrize(
    "statistic", [SoftSoft(2.0), ABSMAX, Quest(), Quest(centered=True)], ids=["soft", "hard", "quest", "centered"]
)
def test_full_vjp_through_scale_statistic_and_tensor_scale(
    statistic: Statistic, reference: Current | None, scale: Format, tile: int
) -> None:
    """Every entry of the Jacobian, off-diagonal ones included; 13 columns in blocks of 8, 3 rows in tiles of 2."""
    options = {"statistic": statistic, "scale_gradient": "full", "tensor_scale": reference, **SMOOTH}
    q = BlockQuantizer(E2M1, scale, block=8, tile=tile, constant=5.0, **options)
    x = operand(3, 13)
    assert not q.straight_through
    assert vjp_error(q, x) < 1e-6
    assert vjp_error(replace(q, scale_gradient="constant"), x) > 1e-2  # the measurement sees a missing gradient
    if reference is not None:
        assert vjp_error(replace(q, tensor_scale=Current(100.0)), x) > 1e-3


@pytest.mark.parametrize("reference", [None, Current()], ids=["one level", "tensor scale"])
def test_scale_treated_as_a_constant(reference: Current | None) -> None:
    """With a constant scale the derivative is that of f with its scales held: diagonal, Q'(u) at u = x / s."""
    smooth = {k: SMOOTH[k] for k in ("rounding", "slope")}
    q = BlockQuantizer(E2M1, UE4M3, block=8, constant=5.0, tensor_scale=reference, **smooth)
    x, g = operand(3, 13), operand(3, 13).cos()
    held = frozen(q, x)
    assert vjp_error(held, x) < 1e-6
    assert torch.equal(q.vjp(x, g), held.vjp(x, g))
    trace = q.trace(x)
    assert torch.equal(trace.statistic, trace.blocks.abs().amax((-3, -1), keepdim=True))
    u = trace.matrix(trace.scaled)
    assert torch.equal(u, x * trace.matrix(trace.factors.encode))
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
    q = BlockQuantizer(E2M1, UE4M3, 16, rounding=Stochastic(), scale_gradient="full")
    x, g = operand(4, 32), operand(4, 32).sin()
    assert torch.equal(q.vjp(x, g, key(step=3)), q.vjp(x, g, key(step=3)))
    assert not torch.equal(q.vjp(x, g, key(step=3)), q.vjp(x, g, key(step=4)))


def test_the_vjp_is_linear_and_leaves_no_graph() -> None:
    q = BlockQuantizer(E2M1, UE4M3, block=8, scale_gradient="full", **SMOOTH)
    x, a, b = operand(3, 13), operand(3, 13).sin(), operand(3, 13).cos()
    assert torch.allclose(q.vjp(x, 2 * a - b), 2 * q.vjp(x, a) - q.vjp(x, b), rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        assert not q.vjp(x.requires_grad_(), a).requires_grad


CONVENTIONS = [Decode(), Decode("smallest"), Decode("one"), Decode(encode_with="unquantized"), Encode(), Encode(True)]


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
@pytest.mark.parametrize("reference", [None, Current(), Current(100.0, "exact")], ids=str)
@pytest.mark.parametrize("scale", [UE4M3, E8M0, FP32], ids=lambda f: f.name)
def test_zero_blocks_have_a_finite_derivative(scale: Format, reference: Current | None, convention: Convention) -> None:
    """Zeros stay zero whatever the scale, so f is its straight-through slope there."""
    x = torch.zeros(2, 16, dtype=torch.float32)
    x[0, 9] = 1
    zero = x.view(2, 2, 8).abs().amax(-1).repeat_interleave(8, -1) == 0
    for gradient in ("full", "diagonal", "constant"):
        options = {"scale_gradient": gradient, "convention": convention, "tensor_scale": reference, "slope": DGE(k=1)}
        q = BlockQuantizer(E2M1, scale, 8, **options)  # DGE with k = 1 is the identity, without the short cut
        assert not q.straight_through
        found = q.vjp(x, torch.ones(2, 16))
        assert bool(found.isfinite().all())
        assert torch.allclose(found[zero], torch.ones(24), rtol=1e-6, atol=0)
        assert bool(q.vjp(torch.zeros(2, 16), torch.ones(2, 16)).isfinite().all())  # and a tensor of nothing but zeros
