"""What a cast promises beside the values themselves: special values, stochastic rounding, slopes."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.cast import cast
from dse.numerics.formats import BF16, E2M1, E4M3, E5M2, E8M0, FP32, UE4M3, UE5M3, Format
from dse.numerics.grid import floor_power, round_to_grid
from dse.numerics.ops import FREE, Ops
from dse.numerics.techniques.rounding import NEAREST_EVEN, AwayFromZero, Rounding, Stochastic, TowardZero
from dse.numerics.techniques.slopes import Slope

FORMATS = (E2M1, E4M3, E5M2, BF16, E8M0, UE4M3, UE5M3, FP32)
ROUNDINGS = (NEAREST_EVEN, TowardZero(), AwayFromZero())
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
formats = st.sampled_from(FORMATS)
roundings = st.sampled_from(ROUNDINGS)


def one(value: float, fmt: Format, rounding: Rounding = NEAREST_EVEN) -> Tensor:
    return round_to_grid(torch.tensor(value), fmt, rounding)


@pytest.mark.parametrize("fmt", [E2M1, E4M3, E5M2, BF16], ids=lambda f: f.name)
def test_special_values_of_signed_formats(fmt: Format) -> None:
    """Policy: infinities saturate, NaN passes whether or not the format has one, zeros keep their sign."""
    u = torch.tensor([inf, -inf, nan, 0.0, -0.0, 3.4e38, -3.4e38, -1e-45])
    q = round_to_grid(u, fmt)
    assert q[:2].tolist() == [fmt.max, -fmt.max]
    assert q[2].isnan()
    assert q[5:7].tolist() == [fmt.max, -fmt.max]
    assert q.signbit().tolist() == [False, True, False, False, True, False, True, True]
    assert q[3:5].tolist() == [0, 0]
    assert q[7] == 0  # a negative value that underflows is -0


@pytest.mark.parametrize("fmt", [E8M0, UE4M3, UE5M3, FP32], ids=lambda f: f.name)
def test_special_values_of_unsigned_formats(fmt: Format) -> None:
    """Policy: infinity saturates, NaN passes, what is negative or zero becomes the smallest value (0, or 2^-127).

    Statistics are magnitudes, so -0 does not occur.
    """
    u = torch.tensor([inf, nan, 0.0, -1.0, -inf])
    q = round_to_grid(u, fmt)
    assert q[0] == fmt.max
    assert q[1].isnan()
    assert (q[2:] == (0 if fmt.subnormals else 2.0**-127)).all()
    assert not q.signbit().any()


def test_ties() -> None:
    """E2M1 has ties of every kind; E8M0 ties (1.5 * 2^e, one significand bit) go up, as in torch and ml_dtypes."""
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    assert round_to_grid(ties, E2M1).tolist() == [0, 1, 1, 2, 2, 4, 4]
    assert round_to_grid(-ties, E2M1).tolist() == [0, -1, -1, -2, -2, -4, -4]
    assert round_to_grid(torch.tensor([0.75, 1.5, 3.0]), E8M0).tolist() == [1, 2, 4]
    assert one(2.0**-18, UE5M3) == 0  # half of the smallest subnormal
    assert one(3 * 2.0**-18, UE5M3) == 2.0**-16


@given(finite, formats, roundings)
def test_a_cast_value_is_on_the_grid_and_stays(u: float, fmt: Format, rounding: Rounding) -> None:
    q = one(u, fmt, rounding)
    assert q.abs() <= fmt.max
    if fmt is not FP32:
        assert (fmt.grid == q.abs().double()).any()
    assert torch.equal(round_to_grid(q, fmt, rounding), q)


@given(finite, finite, formats, roundings)
def test_a_cast_is_monotone(u: float, v: float, fmt: Format, rounding: Rounding) -> None:
    if fmt.signed and u * v < 0 and not isinstance(rounding, type(NEAREST_EVEN)):
        return  # directed modes act on magnitudes; across zero the claim is the same
    low, high = sorted((u, v))
    assert one(low, fmt, rounding) <= one(high, fmt, rounding)


@given(finite, st.sampled_from((E2M1, E4M3, E5M2, BF16)), roundings)
def test_a_signed_cast_is_odd(u: float, fmt: Format, rounding: Rounding) -> None:
    assert one(-u, fmt, rounding) == -one(u, fmt, rounding)


@given(st.floats(min_value=0, width=32, allow_infinity=False), formats)
def test_directed_modes_bracket_the_value(u: float, fmt: Format) -> None:
    if fmt.smallest <= u <= fmt.max or (u < fmt.smallest and fmt.subnormals):
        low, high = one(u, fmt, TowardZero()), one(u, fmt, AwayFromZero())
        assert low <= u <= high
        assert one(u, fmt) in (low, high)


def test_floor_power_is_exact_next_to_powers_of_two() -> None:
    """``log2`` in floating point is wrong there; the bits are not."""
    powers = 2.0 ** torch.arange(-20, 21, dtype=torch.float32)
    below = powers.nextafter(torch.tensor(0.0))
    assert torch.equal(floor_power(powers, -126), powers)
    assert torch.equal(floor_power(below, -126), powers / 2)
    assert floor_power(torch.tensor(1e-45), -6) == 2.0**-6
    assert floor_power(torch.tensor(-3.0, dtype=torch.float64), -1022) == 2


@pytest.mark.parametrize("fmt", [E2M1, E4M3, UE5M3], ids=lambda f: f.name)
@pytest.mark.parametrize("n", [1, 4, 8])
def test_stochastic_rounding_over_all_its_bits(fmt: Format, n: int) -> None:
    """Only the two neighbors occur, P(up) is frac rounded to a multiple of 2^-n exactly, and grid values never move."""
    grid = fmt.grid.float()
    pairs = torch.stack([grid[:-1], grid[1:]])
    if len(grid) > 64:  # subnormals, the first normals and the last ones
        pairs = torch.cat([pairs[:, :20], pairs[:, -20:]], 1)
    low, high = pairs[..., None, None]
    frac = torch.arange(2 ** (n + 1)) / 2.0 ** (n + 1)
    u = (low + frac[:, None] * (high - low)).expand(-1, -1, 2**n)
    bits = torch.arange(2**n).expand_as(u)
    q = round_to_grid(u, fmt, Stochastic(n), bits)
    assert bool(((q == low) | (q == high)).all())
    up = (q == high).sum(-1)
    assert torch.equal(up, torch.floor(frac * 2**n + 0.5).long().expand_as(up))
    if fmt.signed:
        assert torch.equal(round_to_grid(-u, fmt, Stochastic(n), bits), -q)


def test_stochastic_rounding_keeps_what_it_cannot_move() -> None:
    bits = torch.arange(256)
    for value in (6.0, 7.5, inf, 0.0, 0.5, 1.5, -4.0):
        q = round_to_grid(torch.full((256,), value), E2M1, Stochastic(), bits)
        assert (q == max(-6.0, min(value, 6.0))).all()
    assert round_to_grid(torch.full((256,), nan), E2M1, Stochastic(), bits).isnan().all()


@settings(max_examples=50)
@given(st.integers(1, 23), st.floats(0, 6, width=32))
def test_stochastic_rounding_is_unbiased_to_half_a_step_of_its_bits(n: int, u: float) -> None:
    """|E[Q(u)] - u| <= gap * 2^-(n+1), over a fixed, evenly spread set of random values."""
    bits = torch.arange(0, 2**n, max(1, 2**n // 4096))
    q = round_to_grid(torch.full((len(bits),), u), E2M1, Stochastic(n), bits).double()
    gap = float(
        round_to_grid(torch.tensor(u), E2M1, AwayFromZero()) - round_to_grid(torch.tensor(u), E2M1, TowardZero())
    )
    assert abs(q.mean() - u) <= gap * max(2.0 ** -(n + 1), 1 / len(bits))


def test_stochastic_rounding_refuses_what_it_cannot_do() -> None:
    for n in (0, 24):
        with pytest.raises(OptionError, match="between 1 and 23"):
            Stochastic(n)
    with pytest.raises(ValueError, match="random bits"):
        round_to_grid(torch.ones(3), E2M1, Stochastic())


@dataclass(frozen=True)
class _Square(Slope):
    """A slope that depends on the point, to see where it is evaluated."""

    def __call__(self, u: Tensor, fmt: Format) -> Tensor:
        return u * u

    def ops(self) -> Ops:
        return FREE


def test_gradient_is_the_slope_at_the_point() -> None:
    u = torch.tensor([-7.0, -1.3, 0.2, 2.5], requires_grad=True)
    g = torch.tensor([1.0, 2.0, 3.0, 4.0])
    cast(u, E2M1, slope=_Square()).backward(g)
    assert u.grad is not None
    assert torch.equal(u.grad, g * u.detach() ** 2)
    straight = u.detach().requires_grad_()
    cast(straight, E2M1).backward(g)
    assert torch.equal(straight.grad, g)  # saturated values included
