"""The arbiter when oracles disagree: microscaling in exact rational arithmetic, one scalar at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache

from dse.numerics.formats import ELEMENTS
from tests.oracle.codebooks import decoded


@cache
def values(name: str) -> tuple[Fraction, ...]:
    """The non-negative values of a format, exactly."""
    return tuple(Fraction(v) for v in decoded(name).tolist())


def nearest(u: Fraction, grid: Sequence[Fraction]) -> Fraction:
    """The nearest value of a grid of codes 0, 1, 2 ...; a tie goes to the even code; saturates; odd in ``u``."""
    magnitude = abs(u)
    if magnitude >= grid[-1]:
        return grid[-1] if u > 0 else -grid[-1]
    code = bisect_right(grid, magnitude) - 1
    low, high = magnitude - grid[code], grid[code + 1] - magnitude
    code += high < low or (high == low and code % 2 == 1)
    return grid[code] if u > 0 else -grid[code]


def floor_log2(x: Fraction) -> int:
    """The integer e with 2^e <= x < 2^(e + 1), for x > 0."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def shared_exponent(amax: Fraction, element: str, rule: str) -> int:
    """The exponent of the MX scale, from -127 to 127.

    'floor': floor(log2 amax) - emax (OCP MX v1.0, 6.3); 'ceil': ceil(log2 amax) - emax; 'rceil': the least e with
    max * 2^e >= amax (NVIDIA); 'even': floor after amax is rounded to the element's mantissa, halves up.
    """
    if amax == 0:
        return -127
    fmt = ELEMENTS[element]
    e = floor_log2(amax)
    if rule == "rceil":
        e -= fmt.emax
        while Fraction(fmt.max) * Fraction(2) ** e < amax:
            e += 1
        while Fraction(fmt.max) * Fraction(2) ** (e - 1) >= amax:
            e -= 1
        return min(max(e, -127), 127)
    if rule == "even":
        e += amax + Fraction(2) ** (e - fmt.man - 1) >= Fraction(2) ** (e + 1)
    elif rule == "ceil":
        e += amax > Fraction(2) ** e
    return min(max(e - fmt.emax, -127), 127)


def mx_block(block: Iterable[float], element: str, rule: str) -> list[float]:
    """One block quantized and decoded (every result is a float64)."""
    x = [Fraction(v) for v in block]
    s = Fraction(2) ** shared_exponent(max(abs(v) for v in x), element, rule)
    return [float(nearest(v / s, values(f"element {element}")) * s) for v in x]
