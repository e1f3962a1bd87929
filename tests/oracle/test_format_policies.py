"""Where the formats differ from a third party by policy, each difference pinned.

- ties of one-bit significands (E3M0, E8M0) go to the larger magnitude (IEEE 754-2019, 4.3.1; torch and ml_dtypes do the
  same for E8M0), in gfloat to the even code;
- everything saturates at the largest finite value, infinities too; ml_dtypes gives NaN or infinity there;
- E8M0 has no zero: what lies below 2^-127 becomes 2^-127; between 2^-127 and 2^-126, where torch and ml_dtypes round
  every float32 subnormal up, we round to nearest;
- integers are symmetric (-8 and -128 unused) and keep the sign of zero, gfloat's two's complement does neither;
- NaN stays NaN in every format, as the emulation carries FP32; unsigned formats take magnitudes: -x becomes the least;
- UE8M3 stops at 1.875 * 2^127, the end of FP32, in which scales are computed; twelve bits would reach 1.875 * 2^128.
"""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
import torch

from dse.numerics.formats import BF16, SCALES
from dse.numerics.grid import round_to_grid
from dse.numerics.techniques.rounding import NEAREST_EVEN, AwayFromZero, NearestAway, Rounding, Stochastic, TowardZero
from tests.oracle.codebooks import (
    FORMATS,
    ONE_BIT,
    SEED,
    comparable,
    decoded,
    every,
    gfloats,
    ours,
    points,
    same_bits,
    signed,
)

gfloat = pytest.importorskip("gfloat")
ml_dtypes = pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered in cast:RuntimeWarning")


@pytest.mark.parametrize("name", ONE_BIT)
def test_ties_of_one_bit_significands(name: str) -> None:
    """1.5 * 2^e goes up (IEEE 754-2019, 4.3.1: no even neighbor, so the larger); gfloat takes the even code."""
    grid = decoded(name)[1:]  # codes 1, 2, 3 ...
    ties = (grid[1:] + grid[:-1]) / 2
    same_bits(ours(ties, name), grid[1:], ties)
    even = np.where(np.arange(1, len(grid)) % 2 == 0, grid[:-1], grid[1:])
    same_bits(gfloats(ties, name, "TiesToEven"), even, ties)
    if name == "scale e8m0":
        normal = ties[(ties >= 2.0**-126) & (ties < 2.0**127)].astype(np.float32)
        same_bits(normal.astype(ml_dtypes.float8_e8m0fnu).astype(np.float64), ours(normal, name), normal)


def test_e8m0_among_float32_subnormals() -> None:
    """2^-127 and 2^-126 are 0x400000 and 0x800000: ours rounds to nearest, ml_dtypes and torch round up."""
    patterns = np.array([1, 0x3FFFFF, 0x400000, 0x400001, 0x5FFFFF, 0x600000, 0x7FFFFF, 0x800000], np.uint32)
    u = patterns.view(np.float32)
    low, high = 2.0**-127, 2.0**-126
    assert ours(u, "scale e8m0", dtype=np.float32).tolist() == [low, low, low, low, low, high, high, high]
    theirs = u.astype(ml_dtypes.float8_e8m0fnu).astype(np.float64)
    assert theirs[3:].tolist() == [high] * 5
    rounded = torch.from_numpy(u).to(torch.float8_e8m0fnu).double()
    assert rounded[3:].tolist() == [high] * 5


@every
@pytest.mark.parametrize(
    "rounding", [NEAREST_EVEN, NearestAway(), TowardZero(), AwayFromZero(), Stochastic(8)], ids=str
)
def test_nan_infinity_and_saturation(name: str, rounding: Rounding) -> None:
    fmt = FORMATS[name]
    u = torch.tensor([nan, inf, -inf, fmt.max, fmt.max * 1.0625, 1e308, -1e308], dtype=torch.float64)
    bits = torch.full(u.shape, 255) if rounding.random_bits else None
    found = round_to_grid(u, fmt, rounding, bits)
    low = -fmt.max if fmt.signed else 0.0 if fmt.subnormals else fmt.smallest
    assert found[0].isnan()
    assert found[1:].tolist() == [fmt.max, low, fmt.max, fmt.max, fmt.max, low]


@every
def test_signed_zero(name: str) -> None:
    """-0 stays -0 (also what underflows to it); unsigned formats hold +0 or their smallest value."""
    fmt = FORMATS[name]
    tiny = fmt.smallest / 4
    found = round_to_grid(torch.tensor([0.0, -0.0, tiny, -tiny], dtype=torch.float64), fmt)
    if not fmt.subnormals:
        assert found.tolist() == [fmt.smallest] * 4
        return
    assert not found.any()
    assert found.signbit().tolist()[:1] == [False]
    if fmt.signed:
        assert found.signbit().tolist() == [False, True, False, True]


def test_integers_are_symmetric() -> None:
    for name, least in (("element int4", -8), ("element int8", -128)):
        u = np.array([least - 1.0, least, least + 0.6, least + 1.0])
        assert ours(u, name).tolist() == [least + 1] * 4
        assert gfloats(u, name, "TiesToEven").tolist() == [least, least, least + 1, least + 1]


def test_int8_is_the_mx_grid_times_64() -> None:
    """OCP MX INT8 has 6 fraction bits; ours counts in ones. Equal after the scale takes 2^-6."""
    u = comparable(signed("element int8", points("element int8", SEED, 20_000)), "element int8")
    from gfloat.formats import format_info_ocp_int8 as info

    expected = gfloat.round_ndarray(info, u / 64, gfloat.RoundMode.TiesToEven, sat=True) * 64
    same_bits(ours(u, "element int8") + 0.0, expected, u)


def test_ue8m3_ends_with_fp32() -> None:
    """All twelve bits (sign, 8, 3, every code finite) would reach 1.875 * 2^128 = 6.4e38; FP32 ends at 3.4e38."""
    info = gfloat.FormatInfo(
        "e8m3", 12, 4, bias=127, is_signed=True, domain=gfloat.Domain.Finite, has_nz=True, num_high_nans=0,
        has_subnormals=True, is_twos_complement=False,
    )  # fmt: skip
    assert info.max == 2 * SCALES["ue8m3"].max == 1.875 * 2.0**128
    u = points("scale ue8m3", SEED)
    u = u[u <= SCALES["ue8m3"].max]
    same_bits(ours(u, "scale ue8m3"), gfloat.round_ndarray(info, u, gfloat.RoundMode.TiesToEven, sat=True), u)
    top = torch.tensor([torch.finfo(torch.float32).max])
    assert round_to_grid(top, SCALES["ue8m3"]).item() == SCALES["ue8m3"].max


def test_the_signed_bf16_is_torchs() -> None:
    u = torch.from_numpy(points("scale bf16", SEED)).float()
    u = torch.cat([u, -u])
    assert torch.equal(round_to_grid(u, BF16), u.bfloat16().float().clamp(-BF16.max, BF16.max))
