"""Every format as third parties declare it: literals from the publications, nothing from ``dse.numerics``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dse.numerics.formats import ELEMENTS, SCALES, Format
from dse.numerics.grid import round_to_grid
from dse.numerics.techniques.rounding import NEAREST_EVEN, Rounding

F64 = npt.NDArray[np.float64]
SEED = 20261122
FORMATS: dict[str, Format] = {
    **{f"element {n}": f for n, f in ELEMENTS.items()},
    **{f"scale {n}": f for n, f in SCALES.items()},
}
"""All formats by family and name."""


class Facts(NamedTuple):
    """What the publication says: bits, precision p (with the implicit bit), bias, NaN and infinity codes, ranges."""

    bits: int
    precision: int
    bias: int
    nans: int  # highest codes of each sign that are NaN
    infinities: bool
    largest: float
    normal: float  # smallest normal (for E8M0: smallest)
    smallest: float  # smallest positive
    values: int  # finite non-negative values
    ml_dtypes: str | None = None


FACTS: dict[str, Facts] = {
    "element e2m1": Facts(4, 2, 1, 0, False, 6, 1, 0.5, 8, "float4_e2m1fn"),
    "element e1m2": Facts(4, 3, 0, 0, False, 3.5, 2, 0.5, 8),
    "element e3m0": Facts(4, 1, 3, 0, False, 16, 0.25, 0.25, 8),
    "element int4": Facts(4, 4, -2, 0, False, 7, 8, 1, 8, "int4"),
    "element s1p2": Facts(4, 4, 0, 0, False, 1.75, 2, 0.25, 8),
    "element int8": Facts(8, 8, -6, 0, False, 127, 128, 1, 128),
    "element e2m3": Facts(6, 4, 1, 0, False, 7.5, 1, 0.125, 32, "float6_e2m3fn"),
    "element e3m2": Facts(6, 3, 3, 0, False, 28, 0.25, 0.0625, 32, "float6_e3m2fn"),
    "element e4m3": Facts(8, 4, 7, 1, False, 448, 2.0**-6, 2.0**-9, 127, "float8_e4m3fn"),
    "element e5m2": Facts(8, 3, 15, 3, True, 57344, 2.0**-14, 2.0**-16, 124, "float8_e5m2"),
    "scale e8m0": Facts(8, 1, 127, 1, False, 2.0**127, 2.0**-127, 2.0**-127, 255, "float8_e8m0fnu"),
    "scale ue4m3": Facts(7, 4, 7, 1, False, 448, 2.0**-6, 2.0**-9, 127, "float8_e4m3fn"),
    "scale ue5m3": Facts(8, 4, 15, 7, True, 61440, 2.0**-14, 2.0**-17, 248),
    "scale ue5m3_114688": Facts(8, 4, 15, 1, False, 114688, 2.0**-14, 2.0**-17, 255),
    "scale ue5m3_122880": Facts(8, 4, 15, 0, False, 122880, 2.0**-14, 2.0**-17, 256),
    "scale ue5m2": Facts(7, 3, 15, 3, True, 57344, 2.0**-14, 2.0**-16, 124, "float8_e5m2"),
    "scale ue6m2": Facts(8, 3, 48, 1, False, 49152, 2.0**-48, 2.0**-48, 255),
    "scale ue8m3": Facts(11, 4, 127, 7, True, 1.875 * 2.0**127, 2.0**-126, 2.0**-129, 2040),
    "scale bf16": Facts(15, 8, 127, 127, True, 3.3895313892515355e38, 2.0**-126, 2.0**-133, 32640, "bfloat16"),
    "scale fp32": Facts(31, 24, 127, 2**23 - 1, True, 3.4028234663852886e38, 2.0**-126, 2.0**-149, 0),
}
"""``fp32`` has too many values to list (0). UE8M3's top exponent lies beyond FP32, in which scales are computed."""

every = pytest.mark.parametrize("name", FACTS)
listed = pytest.mark.parametrize("name", [n for n in FACTS if n != "scale fp32"])
ONE_BIT = ("element e3m0", "scale e8m0")
"""Formats of precision 1, where no tie has an even significand on both sides."""

BEYOND_GFLOAT = ("element s1p2", "scale ue6m2")
"""Compared by tests/oracle/test_casts.py and test_grids.py."""


@cache
def gfloat_info(name: str) -> Any:
    """The format as a gfloat ``FormatInfo``."""
    gfloat = pytest.importorskip("gfloat")
    if name in BEYOND_GFLOAT:
        pytest.skip("gfloat has neither fractions of two's complement nor mantissas without subnormals")
    facts, fmt = FACTS[name], FORMATS[name]
    integer = facts.precision == facts.bits
    return gfloat.FormatInfo(
        name,
        facts.bits,
        facts.precision,
        bias=facts.bias,
        is_signed=fmt.signed,
        domain=gfloat.Domain.Extended if facts.infinities else gfloat.Domain.Finite,
        has_nz=fmt.signed and not integer,
        num_high_nans=facts.nans,
        has_subnormals=name != "scale e8m0",
        is_twos_complement=integer,
    )


@cache
def decoded(name: str) -> F64:
    """The finite non-negative values in the order of their codes, decoded by gfloat."""
    gfloat = pytest.importorskip("gfloat")
    info = gfloat_info(name)
    codes = np.arange(2 ** (info.k - info.is_signed), dtype=np.int64)
    values = gfloat.decode_ndarray(info, codes)
    return np.asarray(values[np.isfinite(values)], dtype=np.float64)


def points(name: str, seed: int, n: int = 100_000) -> F64:
    """Magnitudes: every value and midpoint with its float32 and float64 neighbors, then ``n`` random ones.

    Of the random ones, half have uniform exponents from 2^-3 of the smallest value to 4 times the largest, a quarter
    are uniform up to 1.2 times the largest value, a quarter lie among the subnormals. FP32's values are drawn.
    """
    facts, rng = FACTS[name], np.random.default_rng(seed)
    if facts.values:
        grid = decoded(name)
    else:
        grid = np.sort(rng.integers(0, 0x7F7FFFFF, 20_000, dtype=np.int32).view(np.float32).astype(np.float64))
    middle = (grid[1:] + grid[:-1]) / 2
    if not facts.values:
        middle = (grid + np.nextafter(grid.astype(np.float32), np.float32(np.inf))) / 2
    exact = np.concatenate([grid, middle])
    single = exact.astype(np.float32)
    near = [np.nextafter(single, np.float32(to)).astype(np.float64) for to in (0, np.inf)]
    near += [np.nextafter(exact, to) for to in (0, np.inf)]
    wide = 2.0 ** rng.uniform(np.log2(facts.smallest) - 3, np.log2(facts.largest) + 2, n // 2)
    flat = rng.uniform(0, 1.2 * facts.largest, n // 4)
    low = rng.uniform(0, 2 * facts.normal, n // 4)
    found = np.concatenate([exact, *near, wide, flat, low])
    return found[np.isfinite(found)]


def signed(name: str, u: F64) -> F64:
    """``u`` and, where the format has a sign, ``-u``."""
    return np.concatenate([u, -u]) if FORMATS[name].signed else u


def ours(u: Any, name: str, rounding: Rounding = NEAREST_EVEN, bits: Any = None, dtype: Any = np.float64) -> Any:
    """Our rounding of ``u``, computed in ``dtype``."""
    words = None if bits is None else torch.from_numpy(bits)
    return round_to_grid(torch.from_numpy(u.astype(dtype)), FORMATS[name], rounding, words).numpy()


def gfloats(u: Any, name: str, mode: str, **random: Any) -> Any:
    """gfloat's saturating rounding in the mode of that name."""
    gfloat = pytest.importorskip("gfloat")
    return gfloat.round_ndarray(gfloat_info(name), u, getattr(gfloat.RoundMode, mode), sat=True, **random)


def comparable(u: Any, name: str) -> Any:
    """Without what policies cover: negative overflow of integers, E8M0 below its smallest value."""
    if name == "scale e8m0":
        return u[u >= FACTS[name].smallest]
    if name.startswith("element int"):
        return u[u >= -FACTS[name].largest]
    return u


def without_minus_zero(u: Any, name: str) -> Any:
    """gfloat's integers have no -0, so zeros of integers are compared by value."""
    return u + 0.0 if name.startswith("element int") else u


def same_bits(found: npt.NDArray[Any], expected: npt.NDArray[Any], u: npt.NDArray[Any]) -> None:
    """Asserts equality as bit patterns, so that the sign of zero counts."""
    same = found.astype(np.float64).view(np.int64) == expected.astype(np.float64).view(np.int64)
    wrong = np.flatnonzero(~same)[:5]
    assert same.all(), (
        f"{(~same).sum()} of {same.size} differ: {u[wrong]} -> {found[wrong]}, expected {expected[wrong]}"
    )


def pairs(*roundings: tuple[Any, str]) -> Iterator[Any]:
    """Test parameters (our rounding, gfloat's mode) with readable names."""
    for rounding, mode in roundings:
        yield pytest.param(rounding, mode, id=mode)
