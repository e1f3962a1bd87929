"""exp and log of float32 numbers: the twin of dse.kernels.exp_log, operation by operation."""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels import exp_log

LN2 = tl.constexpr(exp_log.LN2)
LOG2_E = tl.constexpr(exp_log.LOG2_E)
INTEGER = tl.constexpr(exp_log.INTEGER)
EXP_LOW = tl.constexpr(exp_log.EXP_LOW)
EXP_HIGH = tl.constexpr(exp_log.EXP_HIGH)
SQRT_HALF = tl.constexpr(exp_log.SQRT_HALF)
EXP_TERMS = tl.constexpr(exp_log.EXP_TERMS)
LOG_TERMS = tl.constexpr(exp_log.LOG_TERMS)


@triton.jit
def exp(x):
    """e^x of float32; NaN stays. Launch with enable_fp_fusion=False."""
    wide = x.to(tl.float64)
    wide = tl.where(wide < EXP_LOW, EXP_LOW, tl.where(wide > EXP_HIGH, EXP_HIGH, wide))
    shifted = wide * LOG2_E + INTEGER
    power = shifted.to(tl.int64, bitcast=True) << 52
    r = wide - (shifted - INTEGER) * LN2
    y = r * EXP_TERMS[8] + EXP_TERMS[7]
    for i in tl.static_range(7):
        y = y * r + EXP_TERMS[6 - i]
    y = (y.to(tl.int64, bitcast=True) + power).to(tl.float64, bitcast=True).to(tl.float32)
    return tl.where(x <= EXP_HIGH, y, tl.where(x == x, float("inf"), x))


@triton.jit
def log(x):
    """The natural logarithm of float32; -inf for zeros, NaN below. Launch with enable_fp_fusion=False."""
    bits = x.to(tl.float64).to(tl.int64, bitcast=True)
    exponent = (bits - SQRT_HALF) >> 52
    f = (bits - (exponent << 52)).to(tl.float64, bitcast=True) - 1.0
    y = f * LOG_TERMS[14] + LOG_TERMS[13]
    for i in tl.static_range(13):
        y = y * f + LOG_TERMS[12 - i]
    y = (y * f + exponent.to(tl.int32).to(tl.float64) * LN2).to(tl.float32)
    beyond = tl.where(x == 0, float("-inf"), tl.where(x > 0, x, float("nan")))
    return tl.where((x > 0) & (x < float("inf")), y, beyond)
