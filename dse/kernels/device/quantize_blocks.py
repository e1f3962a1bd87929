"""Quantizers of any block shape, statistic and choice: one read, all that a block needs in one program."""
# mypy: ignore-errors
# ruff: noqa: RUF059, SIM102

import triton
import triton.language as tl

from dse.kernels.device.block_elements import closer, each, element_threshold, rounded
from dse.kernels.device.block_factors import (
    BLOCK_FLOATS,
    BLOCK_INTS,
    CANDIDATE_FLOATS,
    CANDIDATE_INTS,
    block_factors,
    drawn_threshold,
    scale_threshold,
    tensor_level,
)
from dse.kernels.device.corrections import eden_terms, new_scale
from dse.kernels.device.lattice import LARGEST, MAGNITUDE, bits_of, float_of, smaller
from dse.kernels.device.micro_exponents import beyond, halvings, inverse
from dse.kernels.device.trees import block_peak, group_total, tree_total

SIGN = tl.constexpr(-2147483648)


@triton.jit
def group_peak(peak, GROUP: tl.constexpr):
    """The largest of GROUP blocks side by side, at each: [NR, NB]."""
    NR: tl.constexpr = peak.shape[0]
    NB: tl.constexpr = peak.shape[1]
    grouped = tl.reshape(bits_of(peak) & MAGNITUDE, (NR, NB // GROUP, GROUP))
    whole = tl.broadcast_to(tl.max(grouped, 2, keep_dims=True), (NR, NB // GROUP, GROUP))
    return float_of(tl.reshape(whole, (NR, NB)))


@triton.jit
def element_factors(x, encode, decode, floats, candidate_floats, MICRO: tl.constexpr):
    """What each element is multiplied and decoded by, from the blocks' factors, with their micro-exponents.

    MICRO: sizes of parts, and ``encode`` is without the quantizer's gain; None: there are none.
    """
    factor, unit = each(encode), each(decode)
    if MICRO is not None:
        gain = tl.load(floats + 7)
        u = (tl.abs(x) * each(smaller(encode * gain, LARGEST))) * tl.load(candidate_floats + 6)
        half = halvings(u, beyond(tl.load(candidate_floats)), MICRO)
        factor = smaller((factor * half) * gain, LARGEST)
        unit = unit * inverse(half)
    return factor, unit


@triton.jit(do_not_specialize=["layer", "point", "clock_e", "clock_i", "grid_k", "programs", "tiles", "blocks"])
def blocks_kernel(
    source, source_e, source_r, source_k, R, K, target, target_e, target_r, target_k,
    clock, clock_e, clock_i, layer, point, matrices,
    int_table, float_table, candidate_int_table, candidate_float_table, value_table, levels,
    tiles, blocks, grid_k, programs, t: tl.constexpr, b: tl.constexpr, group: tl.constexpr,
    NR: tl.constexpr, T: tl.constexpr, NB: tl.constexpr, B: tl.constexpr, GROUP: tl.constexpr, OUTER: tl.constexpr,
    LEVELS: tl.constexpr, TERMS: tl.constexpr, VALUE: tl.constexpr, SUMS: tl.constexpr,
    CANDIDATES: tl.constexpr, ERROR: tl.constexpr, CODES: tl.constexpr,
    RANDOM: tl.constexpr, LANE: tl.constexpr, SCALE_RANDOM: tl.constexpr, WIDE: tl.constexpr,
    VALUES: tl.constexpr, CORRECTION: tl.constexpr, MICRO: tl.constexpr,
):  # fmt: skip
    """Decoded values of NR x NB blocks of t x b elements of source [E, R, K], padded to T x B; see BlockTable.

    ``group``: blocks that depend on each other, padded to GROUP; OUTER: blocks under one outer scale, padded, 0: there
    is none; ``tiles``, ``blocks``: of an operand, down and across; ``matrices``: operands [E] of one member, which draw
    as one of all their rows; ``levels`` float32 [E]: g where it is the operand's (LEVELS); TERMS, VALUE: functions of
    statistics.py, SUMS: how many sums they take; CORRECTION: of new scales, the blocks whose sums are added up, padded,
    their random bits, and whether in units of elements; MICRO: sizes of parts of a block; None: there are none.
    """
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    member, matrix = e // matrices, (e % matrices).to(tl.int32)
    ints, floats = int_table + member * BLOCK_INTS, float_table + member * BLOCK_FLOATS
    candidate_ints = candidate_int_table + member * (CANDIDATES * CANDIDATE_INTS)
    candidate_floats = candidate_float_table + member * (CANDIDATES * CANDIDATE_FLOATS)
    values = value_table + member * (CANDIDATES * 2 * VALUES)
    seed = tl.load(clock + member * clock_e)
    step = tl.load(clock + member * clock_e + clock_i)
    tile = at // grid_k * NR + tl.arange(0, NR)
    j = tl.arange(0, NB)
    block = at % grid_k * NB + j
    if GROUP > 1:
        block = (at % grid_k * (NB // GROUP) + j // GROUP) * group + j % GROUP
    i, k = tl.arange(0, T)[None, :, None, None], tl.arange(0, B)[None, None, None, :]
    row = tile[:, None, None, None] * t + i
    column = block[None, None, :, None] * b + k
    inside = (row < R) & (column < K)
    if t != T:
        inside = inside & (i < t)
    if b != B:
        inside = inside & (k < b)
    if group != GROUP:
        inside = inside & ((j % GROUP)[None, None, :, None] < group)
    x = tl.load(source + e * source_e + row * source_r + column * source_k, inside, 0.0).to(tl.float32)

    down, along = tile[:, None], block[None, :]
    count = tl.minimum(R - down * t, t) * tl.minimum(K - along * b, b)
    count = tl.maximum(count, 1).to(tl.float32)
    peak = block_peak(x)
    beta, one, two = tl.load(floats + 9), peak, peak
    if SUMS > 0:
        terms = TERMS(x, each(peak), beta)
        one = tree_total(tl.where(inside, terms[0], 0.0))
        if SUMS > 1:
            two = tree_total(tl.where(inside, terms[1], 0.0))
    z = VALUE(peak, one, two, count, beta, tl.load(floats + 10))
    g = tl.full((NR, NB), 0.0, tl.float32)
    if OUTER > 0:
        g = group_peak(peak, OUTER)
    if LEVELS:
        g += tl.load(levels + e)
    edge = tl.load(floats + 4)
    if SCALE_RANDOM:
        edge = scale_threshold(down + matrix * tiles, along, blocks, ints, floats, point, layer, seed, step)
    threshold = 0.0
    if RANDOM:
        first = block[None, None, :, None] * b // 16
        threshold = element_threshold(
            row + matrix * tiles * t, first, column, blocks * b, ints, point, layer, seed, step, B, LANE
        )  # fmt: skip
    encode, decode, alpha = block_factors(
        z, g, edge, ints, floats, candidate_ints, candidate_floats, CODES, MICRO is None
    )  # fmt: skip
    factor, unit = element_factors(x, encode, decode, floats, candidate_floats, MICRO)
    q = rounded(x, factor, threshold, ints, floats, candidate_ints, candidate_floats, RANDOM, WIDE, VALUES, values)
    best = q * unit * tl.load(candidate_floats + 7)
    elements, scale = q * tl.load(candidate_floats + 7), decode
    for n in range(1, CANDIDATES):
        how_ints, how_floats = candidate_ints + n * CANDIDATE_INTS, candidate_floats + n * CANDIDATE_FLOATS
        encode, decode, own = block_factors(z, g, edge, ints, floats, how_ints, how_floats, CODES, MICRO is None)
        factor, unit = element_factors(x, encode, decode, floats, how_floats, MICRO)
        listed = values + n * (2 * VALUES)
        q = rounded(x, factor, threshold, ints, floats, how_ints, how_floats, RANDOM, WIDE, VALUES, listed)
        y = q * unit * tl.load(how_floats + 7)
        better = closer(y, best, x, alpha * tl.load(floats + 8), ERROR)
        best = tl.where(each(better), y, best)
        if CORRECTION is not None:
            elements = tl.where(each(better), q * tl.load(how_floats + 7), elements)
            scale = tl.where(better, decode, scale)
    if CORRECTION is not None:
        undone = alpha * tl.load(floats + 8)
        squares, products = eden_terms(tl.abs(x), best, each(scale), each(undone), CORRECTION[2])
        above = group_total(tree_total(tl.where(inside, squares, 0.0)), CORRECTION[0])
        below = group_total(tree_total(tl.where(inside, products, 0.0)), CORRECTION[0])
        bits = tl.full((), CORRECTION[1], tl.int32)
        edge = drawn_threshold(down + matrix * tiles, along, blocks, bits, point | (2 << 8), layer, seed, step)
        scale = new_scale(
            scale, above, below, edge, tl.load(floats + 3), tl.load(floats + 2), tl.load(ints + 3), tl.load(ints + 4)
        )  # fmt: skip
        best = elements * each(scale)
    if OUTER > 0:
        best = best * each(alpha)
    out = float_of(bits_of(best) | (bits_of(x) & SIGN))
    where = target + e * target_e + row * target_r + column * target_k
    tl.store(where, out.to(target.dtype.element_ty), inside)


@triton.jit(
    do_not_specialize=["clock_e", "clock_i", "memory_e", "grid_k", "programs"],
    do_not_specialize_on_alignment=["memory"],
)
def peaks_kernel(
    source, source_e, source_r, source_k, R, K, clock, clock_e, clock_i, matrices, int_table, memory, memory_e, peaks,
    grid_k, programs, BR: tl.constexpr, BK: tl.constexpr, SAMPLING: tl.constexpr, HELD: tl.constexpr,
):  # fmt: skip
    """peaks int32 [E], zeros before: the bits of the largest magnitude of each operand whose tensor scale is due."""
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    member = e // matrices
    due, held = level_is_due(
        int_table + member * BLOCK_INTS, memory + e * memory_e, clock + member * clock_e + clock_i, SAMPLING, HELD
    )  # fmt: skip
    if due:
        row = (at // grid_k * BR + tl.arange(0, BR))[:, None]
        column = (at % grid_k * BK + tl.arange(0, BK))[None, :]
        x = tl.load(source + e * source_e + row * source_r + column * source_k, (row < R) & (column < K), 0.0)
        bits = bits_of(x.to(tl.float32)) & MAGNITUDE
        tl.atomic_max(peaks + e, tl.max(tl.max(bits, 1), 0), sem="relaxed")


@triton.jit
def level_is_due(ints, held_at, step_at, SAMPLING: tl.constexpr, HELD: tl.constexpr):
    """Whether the tensor scale is measured now, and the value that is held, 0: none."""
    mode = tl.load(ints + 8)
    held = 0.0
    due = (mode == 1) | (mode == 2)
    if HELD:
        if mode == 2:
            held = tl.load(held_at)
            held = tl.where(held < float("inf"), held, 0.0)
            due = held == 0
            if SAMPLING:
                due = due | (tl.load(step_at) % tl.load(ints + 10) == 0)
    return due, held


@triton.jit(do_not_specialize=["clock_e", "clock_i", "memory_e", "matrices"], do_not_specialize_on_alignment=["memory"])
def levels_kernel(
    peaks, clock, clock_e, clock_i, matrices, int_table, float_table, candidate_float_table, memory, memory_e,
    levels, alphas, CANDIDATES: tl.constexpr, SAMPLING: tl.constexpr, HELD: tl.constexpr,
):  # fmt: skip
    """g of each operand, ``levels`` [E], and the factor for the product's epilogue, ``alphas`` [E]."""
    e = tl.program_id(0).to(tl.int64)
    member = e // matrices
    ints = int_table + member * BLOCK_INTS
    due, held = level_is_due(ints, memory + e * memory_e, clock + member * clock_e + clock_i, SAMPLING, HELD)
    mode = tl.load(ints + 8)
    g = held
    if due:
        g = float_of(tl.load(peaks + e))
        if HELD:  # a sample that is not finite: what is held stays
            g = tl.where((held == 0) | (g < float("inf")), g, held)
    if HELD and SAMPLING:
        if mode == 2:
            tl.store(memory + e * memory_e, tl.where(g < float("inf"), g, 0.0))
    wide = tl.full((1,), 0.0, tl.float32) + g
    target = tl.load(candidate_float_table + member * (CANDIDATES * CANDIDATE_FLOATS) + 3)
    level, alpha = tensor_level(wide, mode % 3, tl.load(ints + 6), tl.load(ints + 9), target)
    tl.store(levels + e, g)
    tl.store(alphas + e + tl.arange(0, 1), alpha * tl.load(float_table + member * BLOCK_FLOATS + 8))
