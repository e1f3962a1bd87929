"""Local slopes Q'(u) of elements: the twins of dse.numerics.techniques.slopes."""
# mypy: ignore-errors
# ruff: noqa: SIM102

import triton
import triton.language as tl

from dse.kernels.device.exp_log import exp, log
from dse.kernels.device.lattice import EXPONENT, bits_of, float_of

SLOPE_FLOATS = tl.constexpr(8)
TINY = tl.constexpr(2.0**-126)


@triton.jit
def offset(m, emin, man):
    """Of a magnitude within the format's range: the offset in [0, 1) in its grid interval, and the interval's width."""
    e = tl.maximum(bits_of(m) & EXPONENT, emin)
    v = m * float_of((254 << 23) - e + man)
    return v - tl.floor(v), float_of(e - man)


@triton.jit
def power_law(t, width, exponent, inverse, NORMALIZED: tl.constexpr):
    """DGE's; ``exponent``: 1/k - 1, ``inverse``: 1/k, as float32."""
    distance = tl.maximum(tl.abs(2.0 * t - 1.0), TINY)
    slope = exp(log(distance) * exponent) * inverse
    if not NORMALIZED:
        slope = slope * exp(log(width * 0.5) * inverse)
    return slope


@triton.jit
def sigmoid_step(t, sharp):
    e = exp(-sharp * tl.abs(t - 0.5))
    return tl.div_rn(sharp * e, (1.0 + e) * (1.0 + e))


@triton.jit
def slopes(u, kind, emin, man, largest, numbers, spline, DGE: tl.constexpr, SPLINE: tl.constexpr):
    """Q'(u), the shape of ``u``.

    ``kind``: 0 one, 1 one within the range, 2 DGE, 3 DGE not normalized, 4 sigmoid, 5 spline (DGE, SPLINE: whether some
    member has one of 2 to 4, or 5); ``emin``, ``man``, ``largest``: of the element format (see lattice); ``numbers``:
    lower and upper bound, value beyond the range, two of the technique's own, and the spline's first point, points per
    unit and number of the last part; ``spline``: slopes of its parts.
    """
    slope = tl.full(u.shape, 1.0, tl.float32)
    if kind > 0:
        size = tl.abs(u)
        lower, upper, beyond = tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2)
        first, second = tl.load(numbers + 3), tl.load(numbers + 4)
        within = size <= largest
        if beyond == 0:
            within = size < largest
        if DGE:
            t, width = offset(tl.where(within, size, 0.0), emin, man)
            if kind == 2:
                slope = power_law(t, width, first, second, True)
            if kind == 3:
                slope = power_law(t, width, first, second, False)
            if kind == 4:
                slope = sigmoid_step(t, first)
        if SPLINE:
            if kind == 5:
                place = tl.floor((tl.where(within, u, 0.0) - tl.load(numbers + 5)) * tl.load(numbers + 6))
                at = tl.minimum(tl.maximum(place, 0.0), tl.load(numbers + 7)).to(tl.int32)
                slope = tl.load(spline + at)
        slope = tl.where(within, tl.minimum(tl.maximum(slope, lower), upper), beyond)
    return slope
