"""The vector-Jacobian product against the closed formulas of the framework (arXiv 2509.17791, Prop. 1, corrected).

u_i = s_q X_i; r_i = X_i Q'(u_i) / s_q - Q(u_i) / s_q^2; s = c / Z; then

    dL/dX_k = g_k Q'(u_k) + q'(s) ds/dX_k sum_i g_i r_i,    ds/dX_k = -(s / Z) dZ/dX_k.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE5M3
from dse.numerics.techniques.conventions import Encode
from dse.numerics.techniques.slopes import StraightThrough
from dse.numerics.techniques.statistics import AbsMax, HardSoft, SoftSoft, Statistic
from dse.numerics.techniques.tensor_scales import Current
from tests.gradients.finite import found_jacobian, measure_parts, operand
from tests.gradients.stairs import Line, Wave, WaveSlope, smooth, stairs  # noqa: F401

pytestmark = pytest.mark.usefixtures("stairs")
C, BLOCK = 4.7, 5
Q, SLOPE = Wave(), WaveSlope()
BASE = BlockQuantizer(scale=UE5M3, block=BLOCK, constant=C, scale_gradient="full", **smooth())


def value(u: Tensor) -> Tensor:
    return Q.value(u, E2M1)


def slope(u: Tensor) -> Tensor:
    return SLOPE(u, E2M1)


def one_block() -> tuple[Tensor, Tensor]:
    x = operand(BASE, 1, BLOCK)
    return x, torch.arange(1.0, BLOCK + 1, dtype=torch.float64).cos()


def z_and_slope(statistic: Statistic, x: Tensor) -> tuple[Tensor, Tensor]:
    """Z and dZ/dX (arXiv 2509.17791, Sec. 5): sign at the maximum, or softmax(beta |X|) sign."""
    hard = x.abs().max()
    if isinstance(statistic, AbsMax):
        return hard, torch.where(x.abs() == hard, x.sign(), 0.0)
    assert isinstance(statistic, HardSoft | SoftSoft)
    soft = (statistic.beta * x.abs()).exp().sum().log() / statistic.beta
    share = (statistic.beta * x.abs()).softmax(-1) * x.sign()
    return (hard if isinstance(statistic, HardSoft) else soft), share


STATISTICS = [AbsMax(), HardSoft(3.0), SoftSoft(3.0)]


@pytest.mark.parametrize("gradient", ["full", "diagonal", "constant"])
@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: type(s).__name__)
def test_encode(statistic: Statistic, gradient: str) -> None:
    x, g = one_block()
    z, dz = z_and_slope(statistic, x)
    s = C / z
    s_q, ds_q = value_of_scale(s)
    u = s_q * x
    r = x * slope(u) / s_q - value(u) / s_q**2
    ds = -(s / z) * dz
    terms = {"full": (g * r).sum(), "diagonal": g * r, "constant": 0.0}
    expected = g * slope(u) + ds_q * ds * terms[gradient]
    q = replace(BASE, statistic=statistic, convention=Encode(), scale_gradient=gradient)
    torch.testing.assert_close(q.vjp(x, g[None]), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: type(s).__name__)
def test_encode_with_the_unquantized_scale(statistic: Statistic) -> None:
    """f = Q(s X) / s_q (``fp_scale_factor``)."""
    x, g = one_block()
    z, dz = z_and_slope(statistic, x)
    s = C / z
    s_q, ds_q = value_of_scale(s)
    u = s * x
    ds = -(s / z) * dz
    through = x * slope(u) / s_q - ds_q * value(u) / s_q**2
    expected = g * (s / s_q) * slope(u) + ds * (g * through).sum()
    q = replace(BASE, statistic=statistic, convention=Encode(encode_with="unquantized"))
    torch.testing.assert_close(q.vjp(x, g[None]), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: type(s).__name__)
def test_decode(statistic: Statistic) -> None:
    """f = s_q Q(X / s_q), s = Z / c: dL/dX_k = g_k Q'(u_k) + q'(s) dZ/dX_k / c sum_i g_i (Q(u_i) - u_i Q'(u_i))."""
    x, g = one_block()
    z, dz = z_and_slope(statistic, x)
    s_q, ds_q = value_of_scale(z / C)
    u = x / s_q
    expected = g * slope(u) + ds_q * dz / C * (g * (value(u) - u * slope(u))).sum()
    torch.testing.assert_close(replace(BASE, statistic=statistic).vjp(x, g[None]), expected, rtol=1e-12, atol=1e-12)


def test_through_the_tensor_scale() -> None:
    """f = (g / s_q) Q(s_q X / g), s = c g / Z.

    df_i/dg = Q/s_q - (X_i/g) Q' + g q'(s) (s/g) [(X_i/g) Q'/s_q - Q/s_q^2].
    """
    x, cotangent = one_block()
    g = x.abs().max()
    z = g
    s = C * g / z
    s_q, ds_q = value_of_scale(s)
    u = s_q * x / g
    bracket = (x / g) * slope(u) / s_q - value(u) / s_q**2
    by_g = value(u) / s_q - (x / g) * slope(u) + g * ds_q * (s / g) * bracket
    at_maximum = torch.where(x.abs() == g, x.sign(), 0.0)
    expected = cotangent * slope(u) + at_maximum * (cotangent * by_g).sum()
    held = replace(BASE, convention=Encode(), scale_gradient="constant", tensor_scale=Current(through="exact"))
    torch.testing.assert_close(held.vjp(x, cotangent[None]), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("convention", ["decode", "encode", "divisor"])
def test_with_exact_scales_the_tensor_scale_has_no_gradient(convention: str) -> None:
    """Fact (a): with q the identity, g cancels."""
    q = conventional(convention, rounding=Q, slope=SLOPE, scale_rounding=Line(), scale_slope=StraightThrough())
    x = operand(replace(q, tensor_scale=Current(17.3)), 3, 12)
    exact = found_jacobian(replace(q, tensor_scale=Current(17.3, "exact")), x)
    torch.testing.assert_close(exact, found_jacobian(replace(q, tensor_scale=Current(17.3)), x), rtol=0, atol=1e-12)
    assert measure_parts(replace(q, tensor_scale=Current(17.3)), x).through_g.abs().max() < 1e-9


@pytest.mark.parametrize("convention", ["decode", "encode"])
def test_only_the_full_product_carries_information_with_exact_scales(convention: str) -> None:
    """Fact (b): the largest element lands on 6 exactly, so with Q' = 1 its own r vanishes; the others' r do not."""
    q = conventional(convention, rounding=Q, slope=StraightThrough(), scale_rounding=Line())
    q = replace(q, constant=6.0, scale_slope=StraightThrough())
    x = torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    held, diagonal, full = (
        found_jacobian(replace(q, scale_gradient=how), x) for how in ("constant", "diagonal", "full")
    )
    torch.testing.assert_close(diagonal, held, rtol=0, atol=1e-12)
    assert (full - held).abs().max() > 1e-2
    u, s = scaled(x, convention)
    residual = (u - Q.value(u, E2M1)) / s**2 if convention == "encode" else Q.value(u, E2M1) - u
    peak = x.view(3, -1, BLOCK - 1).abs().amax(-1, keepdim=True)
    ds = -6 / peak**2 if convention == "encode" else 1 / 6
    rows = (full - held).view(3, 3, BLOCK - 1, 3, 3, BLOCK - 1)  # [j, i] by row, block and element
    for row in range(3):
        for block in range(3):
            top = int(x.view(3, 3, -1)[row, block].abs().argmax())
            slope_of_s = ds if isinstance(ds, float) else ds[row, block]
            expected = slope_of_s * x.view(3, 3, -1)[row, block, top].sign() * residual[row, block]
            torch.testing.assert_close(rows[row, block, top, row, block], expected, rtol=1e-9, atol=1e-12)


def conventional(name: str, **options: object) -> BlockQuantizer:
    convention = BASE.convention if name == "decode" else Encode(divisor=name == "divisor")
    return replace(BASE, block=BLOCK - 1, convention=convention, **options)  # type: ignore[arg-type]


def scaled(x: Tensor, convention: str) -> tuple[Tensor, Tensor]:
    """u and s of blocks of four with c = 6."""
    blocks = x.view(3, -1, BLOCK - 1)
    peak = blocks.abs().amax(-1, keepdim=True)
    return blocks * 6 / peak, 6 / peak


def value_of_scale(s: Tensor) -> tuple[Tensor, Tensor]:
    return Q.value(s, UE5M3), SLOPE(s, UE5M3)
