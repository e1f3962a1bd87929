"""exp and log of float32 numbers, the same bits on every processor and device.

Both are a fixed sequence of float64 multiplications and additions, each rounded by IEEE 754, and one last rounding to
float32; libraries differ in the last place, some by an element's place in memory. ``device/exp_log.py`` is the same
sequence in Triton. The polynomials interpolate exp(r) and log(1 + f) / f at Chebyshev's nodes; their relative errors,
1.1e-12 and 4.8e-13, leave the result within 0.50003 units in the last place.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LN2, LOG2_E = 0.6931471805599453, 1.4426950408889634
INTEGER = 6755399441055744.0
"""1.5 * 2^52: what is added to it is rounded to an integer, which then stands in the low bits."""
EXP_LOW, EXP_HIGH = -110.0, 88.72283172607422
"""exp is 0 below the first, and the second is the largest argument with a finite result."""
EXP_TERMS = (
    1.0,
    0.9999999999797852,
    0.49999999999797934,
    0.16666666891045775,
    0.041666666890957,
    0.008333266097949614,
    0.0013888821677630362,
    0.00019915866926782682,
    2.4876164022625967e-05,
)
"""exp(r), |r| <= log(2) / 2: coefficients of 1, r, r^2 ..."""
LOG_TERMS = (
    1.0000000000002172,
    -0.49999999998512556,
    0.3333333331141725,
    -0.2500000043312815,
    0.20000003805512753,
    -0.16666632233794296,
    0.1428545826094488,
    -0.12501075399501757,
    0.11119413052789981,
    -0.09987366169121653,
    0.08954162789286713,
    -0.08317435210903283,
    0.08750405232693213,
    -0.08467876411458124,
    0.04272800730435181,
)
"""log(1 + f) / f, 1 + f between sqrt(1/2) and sqrt(2)."""
SQRT_HALF = 0x3FE6A09E667F3BCD
"""The bits of sqrt(1/2) in float64."""
_CHUNK = 1 << 14
"""Elements that a CPU works on at once: they stay in its cache."""


def exp(x: Tensor) -> Tensor:
    """e^x, float32 of any shape; NaN stays. Float64, which only analyses use, is torch's own."""
    return torch.exp(x) if x.dtype == torch.float64 else _chunked(_exp, x)


def log(x: Tensor) -> Tensor:
    """The natural logarithm, float32 of any shape; -inf for zeros, NaN below. Float64 is torch's own."""
    return torch.log(x) if x.dtype == torch.float64 else _chunked(_log, x)


def _chunked(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        raise TypeError(f"exp and log take float32 or float64, not {x.dtype}")
    if x.device.type != "cpu" or x.numel() <= _CHUNK:
        return f(x)
    return torch.cat([f(part) for part in x.reshape(-1).split(_CHUNK)]).view(x.shape)


def _exp(x: Tensor) -> Tensor:
    wide = x.double().clamp(EXP_LOW, EXP_HIGH)
    shifted = (wide * LOG2_E).add_(INTEGER)
    power = shifted.view(torch.int64) << 52  # drops INTEGER's own bits
    r = wide.sub_(shifted.sub_(INTEGER).mul_(LN2))
    y = _horner(r, EXP_TERMS)
    y = (y.view(torch.int64) + power).view(torch.float64)
    return y.float().where(x <= EXP_HIGH, torch.where(x.isnan(), x, torch.inf))


def _log(x: Tensor) -> Tensor:
    bits = x.double().view(torch.int64)
    exponent = (bits - SQRT_HALF) >> 52
    f = (bits - (exponent << 52)).view(torch.float64).sub_(1.0)
    y = _horner(f, LOG_TERMS).mul_(f).add_(exponent.double().mul_(LN2)).float()
    finite = (x > 0) & (x < torch.inf)
    return y.where(finite, torch.where(x == 0, -torch.inf, torch.where(x > 0, x, torch.nan)))


def _horner(x: Tensor, terms: tuple[float, ...]) -> Tensor:
    y = (x * terms[-1]).add_(terms[-2])
    for term in reversed(terms[:-2]):
        y.mul_(x).add_(term)
    return y
