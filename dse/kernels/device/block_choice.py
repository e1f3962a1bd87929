"""Which of two candidates lies closer to a block, of groups of 16 in a thread: dse.numerics.techniques.choices.base.

Errors are added up in FP32 with a bound of what that rounds; a program in which a block is nearer than that to a tie
adds its own up in FP64, as the reference does.
"""
# mypy: ignore-errors
# ruff: noqa: RUF005

import triton
import triton.language as tl

from dse.kernels.device.element_groups import add
from dse.kernels.device.lattice import larger, magnitude

UNIT = tl.constexpr(2.0**-24)
FLOOR = tl.constexpr(2.0**-100)
"""More than what underflows in a block's sums."""


@triton.jit
def total_16(x):
    """The sum of 16 tensors, neighbors first."""
    for _ in tl.static_range(4):
        y = ()
        for i in tl.static_range(len(x) // 2):
            y = y + (x[2 * i] + x[2 * i + 1],)
        x = y
    return x[0]


@triton.jit
def pair(x, D: tl.constexpr):
    """The sum of two positions D apart, at both."""
    P: tl.constexpr = x.shape[0]
    pairs = tl.reshape(x, (P // (2 * D), 2, D))
    return tl.reshape(tl.broadcast_to(tl.reduce(pairs, 1, add, keep_dims=True), (P // (2 * D), 2, D)), (P,))


@triton.jit
def block_total(x, GROUP: tl.constexpr, ROW: tl.constexpr, BLOCKS: tl.constexpr, TILES: tl.constexpr):
    """From groups' sums to those of blocks, at every group: along rows first, as dse.numerics.tree."""
    for s in tl.static_range(BLOCKS):
        x = pair(x, GROUP << s)
    for s in tl.static_range(TILES):
        x = pair(x, ROW << s)
    return x


@triton.jit
def larger_of_pair(x, D: tl.constexpr):
    """The larger integer of two positions D apart, at both."""
    P: tl.constexpr = x.shape[0]
    pairs = tl.reshape(x, (P // (2 * D), 2, D))
    return tl.reshape(tl.broadcast_to(tl.max(pairs, 1, keep_dims=True), (P // (2 * D), 2, D)), (P,))


@triton.jit
def block_largest(x, GROUP: tl.constexpr, ROW: tl.constexpr, BLOCKS: tl.constexpr, TILES: tl.constexpr):
    """The same of the largest: integers [P]."""
    for s in tl.static_range(BLOCKS):
        x = larger_of_pair(x, GROUP << s)
    for s in tl.static_range(TILES):
        x = larger_of_pair(x, ROW << s)
    return x


@triton.jit
def closer_exactly(
    y, best, x, factor, GROUP: tl.constexpr, ROW: tl.constexpr, BLOCKS: tl.constexpr, TILES: tl.constexpr,
    ERROR: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """int32 [P], 1 where ``factor`` y has the smaller error; ERROR 1: squares, 2: magnitudes, 3: the largest one."""
    f = factor.to(tl.float64)
    if ERROR == 1:
        one = ()
        two = ()
        for i in tl.static_range(16):
            a, b = y[i].to(tl.float64), best[i].to(tl.float64)
            one = one + (a * a - b * b,)
            two = two + ((a - b) * magnitude(x[i], INTERPRET).to(tl.float64),)
        squares = block_total(total_16(one), GROUP, ROW, BLOCKS, TILES)
        better = f * squares < 2.0 * block_total(total_16(two), GROUP, ROW, BLOCKS, TILES)
    else:
        new = ()
        old = ()
        for i in tl.static_range(16):
            z = magnitude(x[i], INTERPRET).to(tl.float64)
            new = new + (tl.abs(f * y[i].to(tl.float64) - z),)
            old = old + (tl.abs(f * best[i].to(tl.float64) - z),)
        if ERROR == 2:
            one = ()
            for i in tl.static_range(16):
                one = one + (new[i] - old[i],)
            better = block_total(total_16(one), GROUP, ROW, BLOCKS, TILES) < 0.0
        else:
            a = new[0].to(tl.int64, bitcast=True)  # NaN is above all
            b = old[0].to(tl.int64, bitcast=True)
            for i in tl.static_range(1, 16):
                a = tl.maximum(a, new[i].to(tl.int64, bitcast=True))
                b = tl.maximum(b, old[i].to(tl.int64, bitcast=True))
            a = block_largest(a, GROUP, ROW, BLOCKS, TILES).to(tl.float64, bitcast=True)
            better = a < block_largest(b, GROUP, ROW, BLOCKS, TILES).to(tl.float64, bitcast=True)
    return better.to(tl.int32)


@triton.jit
def difference(y, best, x, factor, reach, ERROR: tl.constexpr, LEVELS: tl.constexpr, INTERPRET: tl.constexpr):
    """The difference of a group's errors in FP32, and what it may be off by: 0 where ``y`` is ``best``.

    ``reach``: the largest magnitudes that factor y and factor best can have, added up. ERROR 1: of
    factor (y^2 - best^2) - 2 (y - best) x = (y - best) (factor (y + best) - 2 x); 2: of magnitudes.
    """
    d = y[0] - best[0]
    apart = magnitude(d, INTERPRET)
    if ERROR == 1:
        t = tl.fma(magnitude(x[0], INTERPRET), -2.0, (y[0] + best[0]) * factor)
        total = d * t
        size = apart * magnitude(t, INTERPRET)
        for i in tl.static_range(1, 16):
            d = y[i] - best[i]
            t = tl.fma(magnitude(x[i], INTERPRET), -2.0, (y[i] + best[i]) * factor)
            total = tl.fma(d, t, total)
            size = tl.fma(magnitude(d, INTERPRET), magnitude(t, INTERPRET), size)
            apart += magnitude(d, INTERPRET)
        bound = (3 * UNIT) * (apart * reach) + (24 + LEVELS) * UNIT * size
    else:
        minus = -factor
        top = magnitude(x[0], INTERPRET)
        a = magnitude(tl.fma(y[0], minus, top), INTERPRET)
        b = magnitude(tl.fma(best[0], minus, top), INTERPRET)
        total = a - b
        size = a + b
        for i in tl.static_range(1, 16):
            z = magnitude(x[i], INTERPRET)
            a = magnitude(tl.fma(y[i], minus, z), INTERPRET)
            b = magnitude(tl.fma(best[i], minus, z), INTERPRET)
            total += a - b
            size += a + b
            apart += magnitude(y[i] - best[i], INTERPRET)
            top = larger(top, z)
        bound = (40 * UNIT) * (top + reach) + (24 + LEVELS) * UNIT * size
    return total, tl.where(apart == 0, 0.0, bound + FLOOR)


@triton.jit
def closer_16(
    y, best, x, factor, reach, GROUP: tl.constexpr, ROW: tl.constexpr, BLOCKS: tl.constexpr, TILES: tl.constexpr,
    ERROR: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """bool [P], at every group of a block: ``closer_exactly``, whose FP64 few programs need.

    ``y``, ``best``: 16 magnitudes each; ``factor`` [P]: what they are multiplied by.
    """
    if ERROR == 3:
        found = closer_exactly(y, best, x, factor, GROUP, ROW, BLOCKS, TILES, ERROR, INTERPRET)
    else:
        total, bound = difference(y, best, x, factor, reach, ERROR, BLOCKS + TILES, INTERPRET)
        total = block_total(total, GROUP, ROW, BLOCKS, TILES)
        bound = block_total(bound, GROUP, ROW, BLOCKS, TILES)
        sure = (tl.abs(total) > bound) | (bound == 0)
        found = (total < 0).to(tl.int32)
        if tl.min(sure.to(tl.int32), 0) == 0:
            found = closer_exactly(y, best, x, factor, GROUP, ROW, BLOCKS, TILES, ERROR, INTERPRET)
    return found != 0
