"""Casts against independent implementations: ml_dtypes, gfloat, torch's own float8 types, and a search in the grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dse.numerics.cast import cast
from dse.numerics.formats import BF16, E2M1, E4M3, E5M2, E8M0, FP32, UE4M3, UE5M3, Format
from dse.numerics.grid import round_to_grid
from dse.numerics.techniques.rounding import AwayFromZero, Stochastic, TowardZero
from tests.oracle.grids import nearest, points, values

ml_dtypes = pytest.importorskip("ml_dtypes")
ALL = (E2M1, E4M3, E5M2, BF16, E8M0, UE4M3, UE5M3)
NAMES = [f.name for f in ALL]


def ours(u: np.ndarray, fmt: Format) -> np.ndarray:
    return round_to_grid(torch.from_numpy(u), fmt).numpy()


def assert_same_bits(found: np.ndarray, expected: np.ndarray, u: np.ndarray) -> None:
    """Equal as bit patterns, so that the sign of zero counts."""
    same = found.astype(np.float64).view(np.int64) == expected.astype(np.float64).view(np.int64)
    wrong = np.flatnonzero(~same)[:5]
    assert same.all(), f"{(~same).sum()} differ: {u[wrong]} -> {found[wrong]}, expected {expected[wrong]}"


@pytest.mark.parametrize("fmt", ALL, ids=NAMES)
def test_the_grid_is_the_list_of_bit_patterns(fmt: Format) -> None:
    assert np.array_equal(fmt.grid.numpy(), values(fmt))
    assert fmt.grid[-1] == fmt.max
    assert fmt.grid[fmt.grid > 0][0] == fmt.smallest


@pytest.mark.parametrize("fmt", ALL, ids=NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cast_equals_a_search_in_the_grid(fmt: Format, dtype: type) -> None:
    u = points(fmt).astype(dtype)
    if dtype is np.float64:  # neighbors in float64, which a detour over float32 would round twice
        grid = values(fmt)
        middle = (grid[1:] + grid[:-1]) / 2
        u = np.concatenate([u, np.nextafter(middle, np.inf), np.nextafter(middle, 0)])
    assert_same_bits(ours(u, fmt), nearest(u, fmt, ties_up=fmt is E8M0), u)


@pytest.mark.parametrize(
    ("fmt", "name"),
    [
        (E2M1, "float4_e2m1fn"),
        (E4M3, "float8_e4m3fn"),
        (E5M2, "float8_e5m2"),
        (BF16, "bfloat16"),
        (UE4M3, "float8_e4m3fn"),
        (E8M0, "float8_e8m0fnu"),
    ],
    ids=lambda x: x if isinstance(x, str) else x.name,
)
def test_cast_equals_ml_dtypes(fmt: Format, name: str) -> None:
    """On every value, tie and their neighbors, subnormals included.

    Named differences: ml_dtypes does not saturate (E4M3 -> NaN above 464, E5M2 and BF16 -> infinity), so its input is
    clamped here; unsigned formats are compared on magnitudes; in E8M0, ml_dtypes and torch round everything between
    2^-127 and 2^-126 (float32 subnormals) up, where we round to nearest, so that E8M0 starts at 2^-126.
    """
    u = points(fmt)
    if not fmt.signed:
        u = np.abs(u)
    if fmt is E8M0:
        u = u[u >= 2.0**-126]
    expected = np.clip(u, -fmt.max, fmt.max).astype(np.float32).astype(getattr(ml_dtypes, name)).astype(np.float32)
    assert_same_bits(ours(u, fmt), expected, u)


@pytest.mark.parametrize(
    ("fmt", "dtype"),
    [(E4M3, torch.float8_e4m3fn), (E5M2, torch.float8_e5m2), (BF16, torch.bfloat16), (E8M0, torch.float8_e8m0fnu)],
    ids=lambda x: x.name if isinstance(x, Format) else str(x),
)
def test_cast_equals_torch(fmt: Format, dtype: torch.dtype) -> None:
    u = points(fmt)
    u = u if fmt.signed else np.abs(u)
    u = u[u >= 2.0**-126] if fmt is E8M0 else u
    expected = torch.from_numpy(u).clamp(-fmt.max, fmt.max).to(dtype).float().numpy()
    assert_same_bits(ours(u, fmt), expected, u)


def gfloat_format(fmt: Format) -> object:
    gfloat = pytest.importorskip("gfloat")
    from gfloat import formats

    known = {
        E2M1: formats.format_info_ocp_e2m1,
        E4M3: formats.format_info_ocp_e4m3,
        E5M2: formats.format_info_ocp_e5m2,
        BF16: formats.format_info_bfloat16,
        UE4M3: formats.format_info_ocp_e4m3,
        E8M0: formats.format_info_ocp_e8m0,
    }
    if fmt in known:
        return known[fmt]
    return gfloat.FormatInfo(  # the top exponent of UE5M3 is reserved, as in IEEE 754
        "ue5m3",
        8,
        4,
        bias=15,
        is_signed=False,
        domain=gfloat.Domain.Extended,
        has_nz=False,
        num_high_nans=7,
        has_subnormals=True,
        is_twos_complement=False,
    )


@pytest.mark.parametrize("fmt", ALL, ids=NAMES)
def test_nearest_equals_gfloat(fmt: Format) -> None:
    """Named difference: gfloat sends E8M0 ties (1.5 * 2^e) to the even code; torch, ml_dtypes and we round them up."""
    gfloat = pytest.importorskip("gfloat")
    u = points(fmt, 20_000)
    u = (u if fmt.signed else np.abs(u)).astype(np.float64)
    if fmt is E8M0:
        u = u[(np.frexp(u)[0] != 0.75) & (u >= fmt.smallest)]
    expected = gfloat.round_ndarray(gfloat_format(fmt), u, gfloat.RoundMode.TiesToEven, sat=True)
    assert_same_bits(ours(u, fmt), expected, u)


@pytest.mark.parametrize("fmt", ALL, ids=NAMES)
@pytest.mark.parametrize(("rounding", "mode"), [(TowardZero(), "TowardZero"), (AwayFromZero(), "TowardPositive")])
def test_directed_rounding_equals_gfloat(fmt: Format, rounding: TowardZero | AwayFromZero, mode: str) -> None:
    """On magnitudes: ``up`` enlarges the magnitude, which is toward +infinity for what scales hold."""
    gfloat = pytest.importorskip("gfloat")
    u = np.abs(points(fmt, 20_000)).astype(np.float64)
    u = u[u >= fmt.smallest] if fmt is E8M0 else u
    expected = gfloat.round_ndarray(gfloat_format(fmt), u, getattr(gfloat.RoundMode, mode), sat=True)
    assert_same_bits(round_to_grid(torch.from_numpy(u), fmt, rounding).numpy(), expected, u)


@pytest.mark.parametrize("fmt", [E2M1, E4M3, UE5M3], ids=lambda f: f.name)
@pytest.mark.parametrize("n", [1, 8, 12])
def test_stochastic_equals_gfloat_on_the_same_bits(fmt: Format, n: int) -> None:
    """The rule is gfloat's StochasticFast ('up iff frac + (2r + 1) / 2^(n+1) >= 1'), bit for bit."""
    gfloat = pytest.importorskip("gfloat")
    u = points(fmt, 20_000).astype(np.float64)
    u = u if fmt.signed else np.abs(u)
    bits = np.random.default_rng(1).integers(0, 2**n, u.shape)
    mode = gfloat.RoundMode.StochasticFast
    expected = gfloat.round_ndarray(gfloat_format(fmt), u, mode, sat=True, srbits=bits, srnumbits=n)
    found = cast(torch.from_numpy(u), fmt, Stochastic(n), bits=torch.from_numpy(bits)).numpy()
    assert_same_bits(found, expected, u)


def test_fp32_scales_are_exact() -> None:
    """Every non-negative float32 is its own FP32 scale, subnormals and the largest value included."""
    patterns = np.random.default_rng(2).integers(0, 0x7F7FFFFF, 100_000, dtype=np.int32)
    u = np.concatenate([patterns.view(np.float32), np.float32([0, 1e-45, 1.1754944e-38, 3.4028235e38])])
    assert_same_bits(ours(u, FP32), u, u)
