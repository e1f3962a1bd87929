"""Elements of a tile [NR, T, NB, B] from the factors of its blocks: scaling, rounding, decoding, errors."""
# mypy: ignore-errors
# ruff: noqa: SIM102

import triton
import triton.language as tl

from dse.kernels.device.lattice import by_threshold, float_of, nearest_even, round_scale, scale_lattice, smaller
from dse.kernels.device.philox import draw, one_draw
from dse.kernels.device.trees import block_max, tree_total


@triton.jit
def each(factor):
    """[NR, NB] beside the elements of the blocks: [NR, 1, NB, 1]."""
    return factor[:, None, :, None]


@triton.jit
def shared_bits(row, first, groups, n, purpose, layer, seed, step, B: tl.constexpr, LANE: tl.constexpr):
    """n bits of every element; 16 elements of a row share LANE / 8 calls; blocks start and end at groups of 16.

    ``row`` [NR, T, 1, 1], ``first`` [1, 1, NB, 1]: the blocks' first group.
    """
    CALLS: tl.constexpr = LANE // 8
    SUB: tl.constexpr = B // 16 * CALLS
    PER: tl.constexpr = 32 // LANE
    NR: tl.constexpr = row.shape[0]
    T: tl.constexpr = row.shape[1]
    NB: tl.constexpr = first.shape[2]
    call = tl.arange(0, SUB)[None, None, None, :]
    index = tl.reshape((row * groups + first) * CALLS + call, (NR * T * NB * SUB,))
    w = draw(index, purpose | (LANE << 16), layer, seed, step)
    words = tl.reshape(tl.join(tl.join(w[0], w[2]), tl.join(w[1], w[3])), (NR, T, NB, SUB * 4))
    if PER > 1:
        words = tl.broadcast_to(tl.expand_dims(words, 4), (NR, T, NB, SUB * 4, PER))
        words = tl.reshape(words, (NR, T, NB, B))
        place = (tl.arange(0, B) % PER * LANE).to(tl.uint32)
        words = words << (32 - LANE - place[None, None, None, :])
    return (words >> (32 - n).to(tl.uint32)).to(tl.int32)


@triton.jit
def element_threshold(
    row, first, column, columns, ints, purpose, layer, seed, step, B: tl.constexpr, LANE: tl.constexpr
):  # fmt: skip
    """Where fractions of stochastic elements round up: [NR, T, NB, B]; LANE 0: blocks of any size, a call for each."""
    n = tl.load(ints + 1)
    groups = (columns + 15) // 16
    if LANE > 0:
        r = shared_bits(row, first, groups, n, purpose, layer, seed, step, B, LANE)
    else:
        r = one_draw(row * groups + column // 16, column % 16 + row * 0, n, purpose, layer, seed, step)
    unit = float_of((127 - n) << 23)
    return (1.0 - 0.5 * unit) - r.to(tl.float32) * unit


@triton.jit
def listed(m, negative, mode, offset, fixed, threshold, counts, values, RANDOM: tl.constexpr, VALUES: tl.constexpr):
    """Magnitudes ``m`` rounded to a list of values: dse.numerics.value_formats, in float64.

    ``values`` [2, VALUES]: magnitudes of the values from 0 upward and downward, then infinities; ``counts``: how many,
    0 where the format is no list, and whatever comes out.
    """
    base = tl.where(negative, VALUES, 0)
    last = tl.maximum(tl.where(negative, counts[1], counts[0]) - 1, 0)
    m = smaller(m, tl.load(values + base + last))
    at = base * 0
    for j in range(1, VALUES):
        at += (m >= tl.where(negative, tl.load(values + VALUES + j), tl.load(values + j))).to(tl.int32)
    at = tl.maximum(tl.minimum(at, last - 1), 0)
    low = tl.load(values + base + at).to(tl.float64)
    gap = tl.where(last == 0, 1.0, tl.load(values + base + tl.minimum(at + 1, last)).to(tl.float64) - low)
    v = at.to(tl.float64) + (m.to(tl.float64) - low) / gap
    edge = fixed.to(tl.float64)
    edge = tl.where(edge < 1e-40, 1e-300, edge)  # away from zero: every share but 0
    u = v + offset.to(tl.float64)
    if RANDOM:
        u = tl.where(mode == 1, v, u)
        edge = tl.where(mode == 1, threshold.to(tl.float64), edge)
    q = tl.floor(u)
    q += tl.where(u - q >= edge, 1.0, 0.0)
    if mode == 0:
        q = (v + 6755399441055744.0) - 6755399441055744.0
    place = tl.where(q >= 0, q, 0.0).to(tl.int32)  # 0 for a NaN
    found = tl.load(values + base + tl.minimum(place, last))
    return tl.where(m == m, found, m)


@triton.jit
def decoded(
    x, factor, decode, threshold, ints, floats, candidate_ints, candidate_floats,
    RANDOM: tl.constexpr, WIDE: tl.constexpr, VALUES: tl.constexpr = 0, values=0,
):  # fmt: skip
    """Magnitudes of the decoded values: see ``rounded``."""
    q = rounded(x, factor, threshold, ints, floats, candidate_ints, candidate_floats, RANDOM, WIDE, VALUES, values)
    return q * decode * tl.load(candidate_floats + 7)


@triton.jit
def rounded(
    x, factor, threshold, ints, floats, candidate_ints, candidate_floats,
    RANDOM: tl.constexpr, WIDE: tl.constexpr, VALUES: tl.constexpr = 0, values=0,
):  # fmt: skip
    """Magnitudes of the elements; ``factor`` and what is loaded are scalars or beside the elements.

    RANDOM: some members are stochastic; WIDE: some formats have long mantissas; VALUES: formats are lists of up to as
    many ``values`` a half, but for some where WIDE.
    """
    mode = tl.load(ints)
    fixed, offset = tl.load(floats), tl.load(floats + 1)
    emin, man = tl.load(candidate_ints), tl.load(candidate_ints + 1)
    largest = tl.load(candidate_floats)
    m = smaller((tl.abs(x) * factor) * tl.load(candidate_floats + 6), largest)
    if VALUES > 0:
        counts = tl.load(candidate_ints + 4), tl.load(candidate_ints + 5)
        q = listed(m, x < 0, mode, offset, fixed, threshold, counts, values, RANDOM, VALUES)
        if WIDE:
            v, lattice = scale_lattice(m, 0.0, largest, emin, man)
            own = round_scale(v, lattice, mode, offset, fixed)
            if RANDOM:
                if mode == 1:
                    own = round_scale(v, lattice, 1, 0.0, threshold)
            q = tl.where(counts[0] > 0, q, own)
    elif WIDE:
        v, lattice = scale_lattice(m, 0.0, largest, emin, man)
        q = round_scale(v, lattice, mode, offset, fixed)
        if RANDOM:
            if mode == 1:
                q = round_scale(v, lattice, 1, 0.0, threshold)
    else:
        q = m
        if mode == 0:
            q = nearest_even(m, emin, man)
        if mode == 2:
            q = by_threshold(m, emin, man, offset, fixed)
        if RANDOM:
            if mode == 1:
                q = by_threshold(m, emin, man, 0.0, threshold)
    return q


@triton.jit
def error_parts(y, best, x, factor, ERROR: tl.constexpr):
    """What the errors of a block are made of, float64 [NR, NB], from magnitudes; ``factor``: beside the elements.

    ERROR 1: sums of y^2 - best^2 and of (y - best) x; 2: the sum of the differences, twice; 3: both largest errors.
    """
    y, best, x, f = y.to(tl.float64), best.to(tl.float64), tl.abs(x).to(tl.float64), factor.to(tl.float64)
    if ERROR == 1:
        one = tree_total(y * y - best * best)
        two = tree_total((y - best) * x)
    else:
        new = tl.abs(f * y - x)
        old = tl.abs(f * best - x)
        if ERROR == 2:
            one = tree_total(new - old)
            two = one
        else:
            one = block_max(new.to(tl.int64, bitcast=True)).to(tl.float64, bitcast=True)  # NaN is above all
            two = block_max(old.to(tl.int64, bitcast=True)).to(tl.float64, bitcast=True)
    return one, two


@triton.jit
def closer(y, best, x, factor, ERROR: tl.constexpr):
    """Whether ``y`` has the smaller error: dse.numerics.techniques.choices.base.closer, [NR, NB]."""
    one, two = error_parts(y, best, x, each(factor), ERROR)
    if ERROR == 1:
        better = factor.to(tl.float64) * one < 2.0 * two
    elif ERROR == 2:
        better = one < 0.0
    else:
        better = one < two
    return better
