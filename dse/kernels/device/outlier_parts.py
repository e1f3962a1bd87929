"""Outliers on the device: quantiles by counting digits, the parts of an operand, and their sum.

Twins: dse.numerics.techniques.outliers. Floats are compared as integers in the same order, NaN above all.
"""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.lattice import bits_of, float_of

LAST = tl.constexpr(0x7FFFFFFF)


@triton.jit
def ordered(x):
    """int32 in the order of the floats."""
    bits = bits_of(x)
    return tl.where(x == x, bits ^ ((bits >> 31) & LAST), LAST)


@triton.jit
def load_tile(source, row, column, R, K, source_r, source_k):
    """float32 elements, and which are inside: rows [BR, 1], columns [1, BK]."""
    inside = (row < R) & (column < K)
    return tl.load(source + row * source_r + column * source_k, inside, 0.0).to(tl.float32), inside


@triton.jit
def counted(digit, chosen):
    """How often each digit occurs, int32 [512]; those that are not chosen are counted as 256."""
    return tl.histogram(tl.where(chosen, digit, 256), 512)


@triton.jit(do_not_specialize=["grid_k", "programs"])
def digits_kernel(
    source, source_e, source_r, source_k, R, K, prefixes, counts, grid_k, programs,
    SHIFT: tl.constexpr, BR: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Adds to counts int32 [E, 2, 256]: how many elements with each target's prefix have which next digit."""
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    row = (at // grid_k * BR + tl.arange(0, BR))[:, None]
    column = (at % grid_k * BK + tl.arange(0, BK))[None, :]
    x, inside = load_tile(source + e * source_e, row, column, R, K, source_r, source_k)
    key = tl.reshape(ordered(x) ^ -2147483648, (BR * BK,))
    inside = tl.reshape(inside, (BR * BK,))
    digit = (key >> SHIFT) & 255
    bins = tl.arange(0, 512)
    for target in tl.static_range(2):
        where = counts + (e * 2 + target) * 256 + bins
        if SHIFT == 24:
            tl.atomic_add(where, counted(digit, inside), bins < 256, sem="relaxed")
        else:
            match = inside & ((key >> (SHIFT + 8)) == (tl.load(prefixes + e * 2 + target) >> (SHIFT + 8)))
            if tl.max(match.to(tl.int32), 0) > 0:
                tl.atomic_add(where, counted(digit, match), bins < 256, sem="relaxed")


@triton.jit(do_not_specialize=["low", "high"])
def choose_kernel(prefixes, ranks, counts, low, high, SHIFT: tl.constexpr, LAST_SHIFT: tl.constexpr):
    """Each target's next digit; ranks int32 [E, 2] become those among the elements with it, and counts zeros.

    After the last digit a rank is negative where the next element in order is a larger one. LAST_SHIFT 16: of BF16
    numbers, whose other bits follow from these: ``ordered`` gives ones below the sign and to NaN, else zeros.
    """
    at = tl.program_id(0).to(tl.int64)
    rank = tl.where(at % 2 == 0, low, high)
    prefix = 0
    if SHIFT != 24:
        rank = tl.load(ranks + at)
        prefix = tl.load(prefixes + at)
    bins = tl.arange(0, 256)
    count = tl.load(counts + at * 256 + bins)
    upto = tl.cumsum(count, 0)
    digit = tl.sum((upto <= rank).to(tl.int32), 0)
    before = tl.sum(tl.where(bins < digit, count, 0), 0)
    rank = rank - before
    chosen = prefix | (digit << SHIFT)
    if SHIFT == LAST_SHIFT:
        own = tl.sum(tl.where(bins == digit, count, 0), 0)
        rank = tl.where(rank + 1 < own, 0, -1)
        if LAST_SHIFT > 0:
            chosen = tl.where((chosen >= 0) | (chosen >> 16 == -1), chosen | 0xFFFF, chosen)
    tl.store(prefixes + at, chosen)
    tl.store(ranks + at, rank)
    tl.store(counts + at * 256 + bins, tl.zeros((256,), tl.int32))


@triton.jit(do_not_specialize=["grid_k", "programs"])
def above_kernel(
    source, source_e, source_r, source_k, R, K, prefixes, above, grid_k, programs, BR: tl.constexpr, BK: tl.constexpr
):  # fmt: skip
    """above int32 [E, 2], LAST before: the smallest element above each target, as an integer in order."""
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    row = (at // grid_k * BR + tl.arange(0, BR))[:, None]
    column = (at % grid_k * BK + tl.arange(0, BK))[None, :]
    x, inside = load_tile(source + e * source_e, row, column, R, K, source_r, source_k)
    key = ordered(x)
    for target in tl.static_range(2):
        found = tl.load(prefixes + e * 2 + target) ^ -2147483648
        larger = tl.where(inside & (key > found), key, LAST)
        tl.atomic_min(above + e * 2 + target, tl.min(tl.min(larger, 1), 0), sem="relaxed")


@triton.jit
def bounds_kernel(prefixes, ranks, above, shares, bounds):
    """bounds float32 [E, 2]: the quantiles, (1 - share) below + share above in float64; shares float64 [2]."""
    at = tl.program_id(0).to(tl.int64)
    below = tl.load(prefixes + at) ^ -2147483648
    over = tl.where(tl.load(ranks + at) < 0, tl.load(above + at), below)
    share = tl.load(shares + at % 2)
    first = float_of(below ^ ((below >> 31) & LAST))
    second = float_of(over ^ ((over >> 31) & LAST))
    mixed = (first.to(tl.float64) * (1.0 - share) + second.to(tl.float64) * share).to(tl.float32)
    tl.store(bounds + at, tl.where(share == 0.0, first, mixed) + 0.0)


@triton.jit
def either(condition, x, y):
    """x where it holds, else y, as integers: a choice of floats may become a minimum, blind to zeros' signs."""
    return float_of(tl.where(condition, bits_of(x), bits_of(y)))


@triton.jit
def clamped(x, low, high):
    low, high = tl.full(x.shape, low, tl.float32), tl.full(x.shape, high, tl.float32)
    y = either(x < low, low, either(x > high, high, x))
    return either(tl.abs(x) == float("inf"), x, y)


@triton.jit(do_not_specialize=["grid_k", "programs"])
def split_kernel(
    source, source_e, source_r, source_k, R, K, bounds, one, two, part_e, part_r, part_k, grid_k, programs,
    ASYMMETRIC: tl.constexpr, BR: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """The parts that are quantized, float32: X between its bounds; or max(X, 0) and min(X, 0)."""
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    row = (at // grid_k * BR + tl.arange(0, BR))[:, None]
    column = (at % grid_k * BK + tl.arange(0, BK))[None, :]
    x, inside = load_tile(source + e * source_e, row, column, R, K, source_r, source_k)
    where = e * part_e + row * part_r + column * part_k
    if ASYMMETRIC:
        zero = tl.full(x.shape, 0.0, tl.float32)
        tl.store(one + where, either(x < 0, zero, x), inside)
        tl.store(two + where, either(x < 0, x, zero), inside)
    else:
        tl.store(one + where, clamped(x, tl.load(bounds + e * 2), tl.load(bounds + e * 2 + 1)), inside)


@triton.jit
def to_bf16(x):
    """float32 rounded to BF16, nearest-even, at most BF16's largest number; NaN stays."""
    bits = bits_of(x)
    rounded = float_of((bits + 0x7FFF + ((bits >> 16) & 1)) & -65536)
    most = 3.3895313892515355e38
    rounded = tl.where(tl.abs(rounded) > most, tl.where(x < 0, -most, most), rounded)
    return tl.where(x == x, rounded, x)


@triton.jit(do_not_specialize=["grid_k", "programs"])
def sum_parts_kernel(
    source, source_e, source_r, source_k, R, K, bounds, one, two, part_e, part_r, part_k, alphas, others, target,
    target_e, target_r, target_k, grid_k, programs,
    ASYMMETRIC: tl.constexpr, SCALED: tl.constexpr, BR: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Quantized parts times their factors (SCALED), and what lies beyond the bounds in BF16, added up."""
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    row = (at // grid_k * BR + tl.arange(0, BR))[:, None]
    column = (at % grid_k * BK + tl.arange(0, BK))[None, :]
    inside = (row < R) & (column < K)
    where = e * part_e + row * part_r + column * part_k
    y = tl.load(one + where, inside, 0.0)
    if SCALED:
        y = y * tl.load(alphas + e)
    if ASYMMETRIC:
        z = tl.load(two + where, inside, 0.0)
        if SCALED:
            z = z * tl.load(others + e)
    else:
        x = tl.load(source + e * source_e + row * source_r + column * source_k, inside, 0.0).to(tl.float32)
        z = to_bf16(x - clamped(x, tl.load(bounds + e * 2), tl.load(bounds + e * 2 + 1)))
    tl.store(target + e * target_e + row * target_r + column * target_k, (y + z).to(target.dtype.element_ty), inside)
