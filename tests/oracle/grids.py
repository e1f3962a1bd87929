"""Test points and a brute-force rounding without ``dse.numerics``: a search in the list of values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dse.numerics.formats import Format

Floats = npt.NDArray[np.floating]


def values(fmt: Format) -> Floats:
    """The non-negative values of a format from its bit patterns: code = exponent field * 2^man + mantissa field."""
    codes = np.arange(2 ** (fmt.exp + fmt.man))
    exponent, mantissa = codes >> fmt.man, codes & (2**fmt.man - 1)
    subnormal = (exponent == 0) & fmt.subnormals
    significand = np.where(subnormal, 0.0, 1.0) + mantissa / 2**fmt.man
    found = significand * 2.0 ** (np.where(subnormal, 1, exponent) - fmt.bias)
    return found[found <= fmt.max]


def nearest(u: Floats, fmt: Format, ties_up: bool = False) -> Floats:
    """Nearest value, saturating; a tie goes to the even code, or to the larger magnitude. NaN is not handled."""
    grid = values(fmt)
    middle = (grid[1:] + grid[:-1]) / 2
    magnitude = np.abs(u.astype(np.float64)) if fmt.signed else np.maximum(u.astype(np.float64), 0)
    code = np.searchsorted(middle, magnitude, side="left")
    tie = middle[np.minimum(code, len(middle) - 1)] == magnitude
    code = code + (tie & ((code % 2 == 1) | ties_up))
    return np.copysign(grid[code], u) if fmt.signed else grid[code]


def points(fmt: Format, n: int = 100_000) -> npt.NDArray[np.float32]:
    """Every value and midpoint, each with its two float32 neighbors; then ``n`` random values over the whole range.

    Half of the random values have uniform exponents (from below the smallest value to above the largest), half are
    uniform up to 1.2 times the largest value. Both signs; of zeros, +0 alone in unsigned formats.
    """
    grid = values(fmt)
    exact = np.concatenate([grid, (grid[1:] + grid[:-1]) / 2]).astype(np.float32)
    exact = np.concatenate([exact, np.nextafter(exact, np.float32(np.inf)), np.nextafter(exact, np.float32(0))])
    rng = np.random.default_rng(0)
    low, high = np.log2(max(fmt.smallest / 8, 2.0**-149)), min(np.log2(fmt.max) + 2, 127.99)
    wide = 2.0 ** rng.uniform(low, high, n // 2)
    flat = rng.uniform(0, min(1.2 * fmt.max, 3.4e38), n - n // 2)
    magnitudes = np.concatenate([exact, wide.astype(np.float32), flat.astype(np.float32)])
    return np.concatenate([magnitudes, -magnitudes if fmt.signed else -magnitudes[magnitudes > 0]])
