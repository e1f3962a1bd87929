"""Statistics Z of blocks: the twins of dse.numerics.techniques.statistics, in two functions each.

``..._terms(x, peak, first)``: what is added up over a block, one or two tensors of the shape of x; ``peak``: the
largest magnitude of each block. ``..._value(peak, one, two, count, first, second)``: Z of each block from the sums;
``count``: its elements (float32). ``first``, ``second``: two numbers of the member's technique.
"""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.exp_log import exp, log

EPS = tl.constexpr(2.0**-23)


@triton.jit
def absmax_terms(x, peak, first):
    """AbsMax, and HardSoft, whose value is the same: no sums."""
    return x, x


@triton.jit
def absmax_value(peak, one, two, count, first, second):
    return peak


@triton.jit
def quest_terms(x, peak, first):
    return x * x, x


@triton.jit
def quest_value(peak, one, two, count, clip, second):
    return clip * tl.sqrt_rn(tl.div_rn(one, count)) + 6e-8


@triton.jit
def centered_quest_value(peak, one, two, count, clip, second):
    square = tl.div_rn(one, count)
    mean = tl.div_rn(two, count)
    variance = square - mean * mean
    square = tl.where(variance <= count * EPS * square, square, variance)
    return clip * tl.sqrt_rn(square) + 6e-8


@triton.jit
def soft_terms(x, peak, beta):
    """SoftSoft: exp(beta |X| - max)."""
    largest = peak * beta
    term = exp(tl.abs(x) * beta - tl.where(largest == float("inf"), 0.0, largest))
    return term, term


@triton.jit
def soft_value(peak, one, two, count, beta, second):
    largest = peak * beta
    total = log(one) + tl.where(largest == float("inf"), 0.0, largest)
    return tl.where(peak == 0, 0.0, tl.div_rn(total, tl.full(total.shape, 0.0, tl.float32) + beta))
