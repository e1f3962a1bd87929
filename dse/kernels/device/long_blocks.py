"""Blocks that no program holds, such as whole rows: a pass for each step, and a few numbers a block between.

Blocks of an operand are numbered row by row; a program reads PT x PB elements as a tile [PT, 1, 1, PB].
"""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.block_elements import decoded, element_threshold, error_parts, rounded
from dse.kernels.device.block_factors import (
    BLOCK_FLOATS,
    BLOCK_INTS,
    CANDIDATE_FLOATS,
    CANDIDATE_INTS,
    block_factors,
    drawn_threshold,
    scale_threshold,
)
from dse.kernels.device.corrections import eden_terms, new_scale
from dse.kernels.device.lattice import MAGNITUDE, bits_of, float_of
from dse.kernels.device.quantize_blocks import SIGN
from dse.kernels.device.trees import tree_total


@triton.jit(do_not_specialize=["programs", "parts_r", "parts_k"])
def long_peaks_kernel(
    source, source_e, source_r, source_k, R, K, peaks, t, b, tiles, blocks, parts_r, parts_k, programs,
    NT: tl.constexpr, PT: tl.constexpr, PB: tl.constexpr,
):  # fmt: skip
    """peaks int32 [E, tiles * blocks], zeros before: the bits of the largest magnitude of each block.

    A program reads PT x PB elements of NT blocks below each other, of more than one only where PT are all their rows.
    """
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    part, at = at % parts_k, at // parts_k
    block, at = at % blocks, at // blocks
    first, down = at // parts_r * NT, at % parts_r
    below = tl.arange(0, NT * PT)[:, None]
    tile, i = first + below // PT, down * PT + below % PT
    k = part * PB + tl.arange(0, PB)[None, :]
    row, column = tile * t + i, block * b + k
    inside = (i < t) & (row < R) & (k < b) & (column < K)
    x = tl.load(source + e * source_e + row * source_r + column * source_k, inside, 0.0).to(tl.float32)
    largest = tl.max(tl.reshape(tl.max(bits_of(x) & MAGNITUDE, 1), (NT, PT)), 1)
    own = first + tl.arange(0, NT)
    tl.atomic_max(peaks + (e * tiles + own) * blocks + block, largest, own < tiles, sem="relaxed")


@triton.jit(do_not_specialize=["programs", "parts"])
def long_terms_kernel(
    source, source_e, source_r, source_k, R, K, peaks, float_table, matrices, sums, sums_n, rows, t, b, tiles, blocks,
    parts, programs, PT: tl.constexpr, PB: tl.constexpr, TERMS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """sums float32 [SUMS, E, rows, blocks, parts]: of each row of a block, PB elements a part."""
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    part, at = at % parts, at // parts
    block = at % blocks
    row = at // blocks * PT + tl.arange(0, PT)
    k = part * PB + tl.arange(0, PB)[None, None, None, :]
    column = block * b + k
    inside = (row < R)[:, None, None, None] & (k < b) & (column < K)
    x = tl.load(source + e * source_e + row[:, None, None, None] * source_r + column * source_k, inside, 0.0)
    peak = float_of(tl.load(peaks + (e * tiles + row // t) * blocks + block, row < R, 0))[:, None, None, None]
    terms = TERMS(x.to(tl.float32), peak, tl.load(float_table + e // matrices * BLOCK_FLOATS + 9))
    where = sums + ((e * rows + row[:, None]) * blocks + block) * parts + part
    tl.store(where, tree_total(tl.where(inside, terms[0], 0.0)), (row < R)[:, None])
    if SUMS > 1:
        tl.store(where + sums_n, tree_total(tl.where(inside, terms[1], 0.0)), (row < R)[:, None])


@triton.jit(do_not_specialize=["layer", "point", "clock_e", "clock_i", "programs", "number"])
def long_factors_kernel(
    peaks, one, two, R, K, clock, clock_e, clock_i, layer, point, matrices, int_table, float_table,
    candidate_int_table, candidate_float_table, levels, references, factors, factors_n, number, t, b, tiles, blocks,
    programs, N: tl.constexpr, VALUE: tl.constexpr, CANDIDATES: tl.constexpr, CODES: tl.constexpr,
    SCALE_RANDOM: tl.constexpr, LEVELS: tl.constexpr, OUTER: tl.constexpr,
):  # fmt: skip
    """factors float32 [3, E, tiles * blocks] under candidate ``number``: encode, decode, alpha of each block.

    ``one``, ``two``: sums of the statistic's terms, ``references``: g of outer scales, [E, tiles * blocks] each.
    """
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    member, matrix = e // matrices, (e % matrices).to(tl.int32)
    ints, floats = int_table + member * BLOCK_INTS, float_table + member * BLOCK_FLOATS
    how_ints = candidate_int_table + (member * CANDIDATES + number) * CANDIDATE_INTS
    how_floats = candidate_float_table + (member * CANDIDATES + number) * CANDIDATE_FLOATS
    flat = (pid % programs * N + tl.arange(0, N))[None, :]
    ok = flat < tiles * blocks
    tile, block = flat // blocks, flat % blocks
    at = e * (tiles * blocks) + flat
    count = tl.minimum(R - tile * t, t) * tl.minimum(K - block * b, b)
    count = tl.maximum(count, 1).to(tl.float32)
    peak = float_of(tl.load(peaks + at, ok, 0))
    first, second = tl.load(one + at, ok, 0.0), tl.load(two + at, ok, 0.0)
    z = VALUE(peak, first, second, count, tl.load(floats + 9), tl.load(floats + 10))
    g = tl.full((1, N), 0.0, tl.float32)
    if OUTER:
        g = tl.load(references + at, ok, 0.0)
    if LEVELS:
        g += tl.load(levels + e)
    edge = tl.load(floats + 4)
    if SCALE_RANDOM:
        seed = tl.load(clock + member * clock_e)
        step = tl.load(clock + member * clock_e + clock_i)
        edge = scale_threshold(tile + matrix * tiles, block, blocks, ints, floats, point, layer, seed, step)
    encode, decode, alpha = block_factors(z, g, edge, ints, floats, how_ints, how_floats, CODES)
    tl.store(factors + at, encode, ok)
    tl.store(factors + factors_n + at, decode, ok)
    tl.store(factors + 2 * factors_n + at, alpha, ok)


@triton.jit(do_not_specialize=["layer", "point", "clock_e", "clock_i", "programs", "grid_k"])
def long_elements_kernel(
    source, source_e, source_r, source_k, R, K, target, target_e, target_r, target_k,
    clock, clock_e, clock_i, layer, point, matrices,
    int_table, float_table, candidate_int_table, candidate_float_table, value_table, factors, factors_n, chosen,
    t, b, tiles, blocks, grid_k, programs, PT: tl.constexpr, PB: tl.constexpr,
    CANDIDATES: tl.constexpr, RANDOM: tl.constexpr, LANE: tl.constexpr, WIDE: tl.constexpr, VALUES: tl.constexpr,
    OUTER: tl.constexpr, CORRECTED: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """Decoded values from the ``factors`` of the ``chosen`` candidates (int32 [E, tiles * blocks]); CORRECTED: with new
    scales.

    KEPT: what stays out of them: 1, outer scales, 2, the scales of blocks, of one candidate; 0: nothing.
    """
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    member, matrix = e // matrices, (e % matrices).to(tl.int32)
    ints, floats = int_table + member * BLOCK_INTS, float_table + member * BLOCK_FLOATS
    row = (at // grid_k * PT + tl.arange(0, PT))[:, None, None, None]
    column = (at % grid_k * PB + tl.arange(0, PB))[None, None, None, :]
    inside = (row < R) & (column < K)
    x = tl.load(source + e * source_e + row * source_r + column * source_k, inside, 0.0).to(tl.float32)
    own = e * (tiles * blocks) + row // t * blocks + column // b
    threshold = 0.0
    if RANDOM:
        threshold = long_threshold(
            row + matrix * tiles * t, at % grid_k * PB, column, blocks * b, ints, point, layer,
            clock + member * clock_e, clock_i, PB, LANE,
        )  # fmt: skip
    y = chosen_values(
        x, own, inside, threshold, ints, floats, candidate_int_table + member * (CANDIDATES * CANDIDATE_INTS),
        candidate_float_table + member * (CANDIDATES * CANDIDATE_FLOATS), factors, factors_n, chosen,
        value_table + member * (CANDIDATES * 2 * VALUES), CANDIDATES, RANDOM, WIDE, VALUES, CORRECTED,
    )  # fmt: skip
    if KEPT == 2:
        q = rounded(
            x, tl.load(factors + own, inside, 0.0), threshold, ints, floats,
            candidate_int_table + member * CANDIDATE_INTS, candidate_float_table + member * CANDIDATE_FLOATS,
            RANDOM, WIDE, VALUES, value_table + member * (2 * VALUES),
        )  # fmt: skip
        y = tl.where(y < float("inf"), q, y)
    if OUTER and KEPT == 0:
        y = y * tl.load(factors + 2 * factors_n + own, inside, 0.0)
    out = float_of(bits_of(y) | (bits_of(x) & SIGN))
    tl.store(target + e * target_e + row * target_r + column * target_k, out.to(target.dtype.element_ty), inside)


@triton.jit
def long_threshold(
    row, start, column, columns, ints, point, layer, clock, clock_i, PB: tl.constexpr, LANE: tl.constexpr
):  # fmt: skip
    """Where fractions of stochastic elements round up, for PB columns from ``start``, a multiple of 16."""
    seed = tl.load(clock)
    step = tl.load(clock + clock_i)
    first = column // 16
    if LANE > 0:
        first = tl.full((1, 1, 1, 1), 0, tl.int32) + start // 16
    return element_threshold(row, first, column, columns, ints, point, layer, seed, step, PB, LANE)


@triton.jit
def chosen_values(
    x, own, inside, threshold, ints, floats, candidate_ints, candidate_floats, factors, factors_n, chosen, values,
    CANDIDATES: tl.constexpr, RANDOM: tl.constexpr, WIDE: tl.constexpr, VALUES: tl.constexpr,
    CORRECTED: tl.constexpr = False,
):  # fmt: skip
    """Magnitudes of the values under each block's chosen candidate; ``own``: the numbers of the elements' blocks."""
    if CANDIDATES > 1:
        number = tl.load(chosen + own, inside, 0)
        candidate_ints += number * CANDIDATE_INTS
        candidate_floats += number * CANDIDATE_FLOATS
        values += number * (2 * VALUES)
    encode, decode = tl.load(factors + own, inside, 0.0), tl.load(factors + factors_n + own, inside, 0.0)
    q = rounded(x, encode, threshold, ints, floats, candidate_ints, candidate_floats, RANDOM, WIDE, VALUES, values)
    if CORRECTED:
        q = q * tl.load(candidate_floats + 7) * decode
    else:
        q = q * decode * tl.load(candidate_floats + 7)
    return q


@triton.jit(do_not_specialize=["layer", "point", "clock_e", "clock_i", "programs", "parts"])
def long_products_kernel(
    source, source_e, source_r, source_k, R, K, clock, clock_e, clock_i, layer, point, matrices,
    int_table, float_table, candidate_int_table, candidate_float_table, value_table,
    factors, factors_n, chosen, sums, sums_n, rows, t, b, tiles, blocks, parts, programs,
    PT: tl.constexpr, PB: tl.constexpr,
    CANDIDATES: tl.constexpr, RANDOM: tl.constexpr, LANE: tl.constexpr, WIDE: tl.constexpr, VALUES: tl.constexpr,
    ELEMENTS: tl.constexpr,
):  # fmt: skip
    """sums float64 [2, E, rows, blocks, parts]: ``eden_terms`` of each row of a block, PB elements a part."""
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    part, at = at % parts, at // parts
    block = at % blocks
    member, matrix = e // matrices, (e % matrices).to(tl.int32)
    ints, floats = int_table + member * BLOCK_INTS, float_table + member * BLOCK_FLOATS
    row = (at // blocks * PT + tl.arange(0, PT))[:, None, None, None]
    k = part * PB + tl.arange(0, PB)[None, None, None, :]
    column = block * b + k
    inside = (row < R) & (k < b) & (column < K)
    x = tl.load(source + e * source_e + row * source_r + column * source_k, inside, 0.0).to(tl.float32)
    own = e * (tiles * blocks) + row // t * blocks + block + k * 0
    threshold = 0.0
    if RANDOM:
        threshold = long_threshold(
            row + matrix * tiles * t, block * b + part * PB, column, blocks * b, ints, point, layer,
            clock + member * clock_e, clock_i, PB, LANE,
        )  # fmt: skip
    y = chosen_values(
        x, own, inside, threshold, ints, floats, candidate_int_table + member * (CANDIDATES * CANDIDATE_INTS),
        candidate_float_table + member * (CANDIDATES * CANDIDATE_FLOATS), factors, factors_n, chosen,
        value_table + member * (CANDIDATES * 2 * VALUES), CANDIDATES, RANDOM, WIDE, VALUES,
    )  # fmt: skip
    undone = tl.load(factors + 2 * factors_n + own, inside, 0.0) * tl.load(floats + 8)
    squares, products = eden_terms(tl.abs(x), y, tl.load(factors + factors_n + own, inside, 0.0), undone, ELEMENTS)
    row = (at // blocks * PT + tl.arange(0, PT))[:, None]
    where = sums + ((e * rows + row) * blocks + block) * parts + part
    tl.store(where, tree_total(tl.where(inside, squares, 0.0)), row < R)
    tl.store(where + sums_n, tree_total(tl.where(inside, products, 0.0)), row < R)


@triton.jit(do_not_specialize=["layer", "point", "clock_e", "clock_i", "programs"])
def long_scales_kernel(
    above, below, clock, clock_e, clock_i, layer, point, matrices, int_table, float_table, scales, tiles, blocks,
    programs, N: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    """New ``scales`` float32 [E, tiles * blocks] in the place of the old ones; ``above``, ``below``: float64 sums."""
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    member, matrix = e // matrices, (e % matrices).to(tl.int32)
    ints, floats = int_table + member * BLOCK_INTS, float_table + member * BLOCK_FLOATS
    flat = (pid % programs * N + tl.arange(0, N))[None, :]
    ok = flat < tiles * blocks
    at = e * (tiles * blocks) + flat
    seed = tl.load(clock + member * clock_e)
    step = tl.load(clock + member * clock_e + clock_i)
    bits = tl.full((), BITS, tl.int32)
    edge = drawn_threshold(
        flat // blocks + matrix * tiles, flat % blocks, blocks, bits, point | (2 << 8), layer, seed, step
    )  # fmt: skip
    s = new_scale(
        tl.load(scales + at, ok, 0.0), tl.load(above + at, ok, 0.0), tl.load(below + at, ok, 0.0), edge,
        tl.load(floats + 3), tl.load(floats + 2), tl.load(ints + 3), tl.load(ints + 4),
    )  # fmt: skip
    tl.store(scales + at, s, ok)


@triton.jit(do_not_specialize=["layer", "point", "clock_e", "clock_i", "programs", "parts", "number"])
def long_errors_kernel(
    source, source_e, source_r, source_k, R, K, clock, clock_e, clock_i, layer, point, matrices,
    int_table, float_table, candidate_int_table, candidate_float_table, value_table,
    best, best_n, chosen, other, other_n, number, alphas, errors, errors_n, rows, t, b, tiles, blocks, parts, programs,
    PT: tl.constexpr, PB: tl.constexpr,
    CANDIDATES: tl.constexpr, RANDOM: tl.constexpr, LANE: tl.constexpr, WIDE: tl.constexpr, VALUES: tl.constexpr,
    ERROR: tl.constexpr,
):  # fmt: skip
    """errors float64 [2, E, rows, blocks, parts]: ``error_parts`` of candidate ``number`` beside the chosen ones.

    ``best``, ``other``: factors of the chosen ones and of this one; ``alphas``: of the first candidate.
    """
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    part, at = at % parts, at // parts
    block = at % blocks
    member, matrix = e // matrices, (e % matrices).to(tl.int32)
    ints, floats = int_table + member * BLOCK_INTS, float_table + member * BLOCK_FLOATS
    row = (at // blocks * PT + tl.arange(0, PT))[:, None, None, None]
    k = part * PB + tl.arange(0, PB)[None, None, None, :]
    column = block * b + k
    inside = (row < R) & (k < b) & (column < K)
    x = tl.load(source + e * source_e + row * source_r + column * source_k, inside, 0.0).to(tl.float32)
    own = e * (tiles * blocks) + row // t * blocks + block + k * 0
    threshold = 0.0
    if RANDOM:
        threshold = long_threshold(
            row + matrix * tiles * t, block * b + part * PB, column, blocks * b, ints, point, layer,
            clock + member * clock_e, clock_i, PB, LANE,
        )  # fmt: skip
    candidate_ints = candidate_int_table + member * (CANDIDATES * CANDIDATE_INTS)
    candidate_floats = candidate_float_table + member * (CANDIDATES * CANDIDATE_FLOATS)
    old = chosen_values(
        x, own, inside, threshold, ints, floats, candidate_ints, candidate_floats, best, best_n, chosen,
        value_table + member * (CANDIDATES * 2 * VALUES), CANDIDATES, RANDOM, WIDE, VALUES,
    )  # fmt: skip
    new = decoded(
        x, tl.load(other + own, inside, 0.0), tl.load(other + other_n + own, inside, 0.0), threshold, ints, floats,
        candidate_ints + number * CANDIDATE_INTS, candidate_floats + number * CANDIDATE_FLOATS,
        RANDOM, WIDE, VALUES, value_table + (member * CANDIDATES + number) * (2 * VALUES),
    )  # fmt: skip
    alpha = tl.load(alphas + own, inside, 0.0) * tl.load(floats + 8)
    one, two = error_parts(new, old, x, alpha, ERROR)
    row = (at // blocks * PT + tl.arange(0, PT))[:, None]
    where = errors + ((e * rows + row) * blocks + block) * parts + part
    tl.store(where, one, row < R)
    tl.store(where + errors_n, two, row < R)
