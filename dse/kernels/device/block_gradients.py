"""Gradients through block quantizers with constant scales: the twin of dse.numerics.block_vjp."""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.bf16 import stored
from dse.kernels.device.block_elements import closer, decoded, each, element_threshold
from dse.kernels.device.block_factors import (
    BLOCK_FLOATS,
    BLOCK_INTS,
    CANDIDATE_FLOATS,
    CANDIDATE_INTS,
    block_factors,
    scale_threshold,
)
from dse.kernels.device.lattice import LARGEST, smaller
from dse.kernels.device.quantize_blocks import group_peak
from dse.kernels.device.slopes import SLOPE_FLOATS, slopes
from dse.kernels.device.trees import block_peak, tree_total


@triton.jit
def spread(factor, like):
    """[NR, NB] to all elements of a tile. Triton 3.6 fails to compile some shapes where more is computed before."""
    return tl.broadcast_to(each(factor), like.shape)


@triton.jit
def pulled_back(x, g, encode, decode, alpha, gain, kind, candidate_ints, candidate_floats, numbers, spline,
                DGE: tl.constexpr, SPLINE: tl.constexpr):  # fmt: skip
    """dX of a tile from ``g``, which has the factors for the epilogue in it already; all tensors have one shape.

    ``encode``, ``decode``, ``alpha``: of each element's block under one candidate, without the quantizer's ``gain``.
    """
    own, inverse = tl.load(candidate_floats + 6), tl.load(candidate_floats + 7)
    factor = smaller(encode * gain, LARGEST)
    broken = (decode == 0) | (encode == LARGEST)
    passed = tl.where((alpha > 0) & (encode > 0), 0.0, float("nan"))  # 0 / alpha / encode
    passed = tl.where(broken, tl.div_rn(tl.div_rn(g, alpha), encode), passed)
    g = passed * inverse + (tl.where(broken, 0.0, g) * inverse) * decode
    u = (x * factor) * own
    emin, man, largest = tl.load(candidate_ints), tl.load(candidate_ints + 1), tl.load(candidate_floats)
    return ((g * slopes(u, kind, emin, man, largest, numbers, spline, DGE, SPLINE)) * own) * factor


@triton.jit(do_not_specialize=["grid_k", "programs"])
def long_gradients_kernel(
    source, source_e, source_r, source_k, R, K, incoming, incoming_e, incoming_r, incoming_k,
    target, target_e, target_r, target_k, float_table, candidate_int_table, candidate_float_table, alphas,
    kinds, number_table, spline_table, spline_parts, factors, factors_n, chosen, t, b, tiles, blocks, grid_k, programs,
    PT: tl.constexpr, PB: tl.constexpr, OUTER: tl.constexpr, CANDIDATES: tl.constexpr,
    DGE: tl.constexpr, SPLINE: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """The same for blocks that no program holds, from their ``factors`` float32 [3, E, tiles * blocks] (encode, decode,
    alpha) and the candidates that they have ``chosen``, int32 [E, tiles * blocks]: tiles of PT x PB elements.
    """
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    floats = float_table + e * BLOCK_FLOATS
    row = (at // grid_k * PT + tl.arange(0, PT))[:, None]
    column = (at % grid_k * PB + tl.arange(0, PB))[None, :]
    inside = (row < R) & (column < K)
    x = tl.load(source + e * source_e + row * source_r + column * source_k, inside, 0.0).to(tl.float32)
    g = tl.load(incoming + e * incoming_e + row * incoming_r + column * incoming_k, inside, 0.0).to(tl.float32)
    own = e * (tiles * blocks) + row // t * blocks + column // b
    encode = tl.load(factors + own, inside, 1.0)
    decode = tl.load(factors + factors_n + own, inside, 1.0)
    alpha = tl.load(factors + 2 * factors_n + own, inside, 1.0)
    kind, gain = tl.load(kinds + e), tl.load(floats + 11)
    if OUTER:
        g = (g * tl.load(floats + 8)) * alpha
    else:
        g = g * tl.load(alphas + e)
    total = g
    for n in tl.static_range(CANDIDATES):
        how = e * CANDIDATES + n
        one = pulled_back(
            x, g, encode, decode, alpha, gain, kind, candidate_int_table + how * CANDIDATE_INTS,
            candidate_float_table + how * CANDIDATE_FLOATS, number_table + how * SLOPE_FLOATS,
            spline_table + how * spline_parts, DGE, SPLINE,
        )  # fmt: skip
        if n == 0:
            total = one
        else:
            total = tl.where(tl.load(chosen + own, inside, 0) == n, one, total)
    if CANDIDATES > 1:
        total = total + 0.0
    where = target + e * target_e + row * target_r + column * target_k
    tl.store(where, stored(total, target, INTERPRET), inside)


@triton.jit(do_not_specialize=["layer", "point", "clock_e", "clock_i", "grid_k", "programs", "tiles", "blocks"])
def gradients_kernel(
    source, source_e, source_r, source_k, R, K, incoming, incoming_e, incoming_r, incoming_k,
    target, target_e, target_r, target_k, clock, clock_e, clock_i, layer, point,
    int_table, float_table, candidate_int_table, candidate_float_table, levels, alphas,
    kinds, number_table, spline_table, spline_parts, tiles, blocks, grid_k, programs,
    t: tl.constexpr, b: tl.constexpr, group: tl.constexpr,
    NR: tl.constexpr, T: tl.constexpr, NB: tl.constexpr, B: tl.constexpr, GROUP: tl.constexpr, OUTER: tl.constexpr,
    LEVELS: tl.constexpr, TERMS: tl.constexpr, VALUE: tl.constexpr, SUMS: tl.constexpr,
    CANDIDATES: tl.constexpr, ERROR: tl.constexpr, CODES: tl.constexpr, RANDOM: tl.constexpr, LANE: tl.constexpr,
    SCALE_RANDOM: tl.constexpr, WIDE: tl.constexpr, DGE: tl.constexpr, SPLINE: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """g^T df/dx of source [E, R, K] to target, from incoming: tiles of NR x NB blocks as in ``blocks_kernel``.

    ``alphas`` [E]: of the epilogue; ``kinds`` int32 [E], ``number_table`` float32 [E, CANDIDATES, 8], ``spline_table``
    float32 [E, CANDIDATES, ``spline_parts``]: see ``slopes``. The quantizer's gain is column 11 of ``float_table``, 7
    is 1.
    """
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    ints, floats = int_table + e * BLOCK_INTS, float_table + e * BLOCK_FLOATS
    candidate_ints = candidate_int_table + e * (CANDIDATES * CANDIDATE_INTS)
    candidate_floats = candidate_float_table + e * (CANDIDATES * CANDIDATE_FLOATS)
    numbers = number_table + e * (CANDIDATES * SLOPE_FLOATS)
    spline = spline_table + e * (CANDIDATES * spline_parts)
    seed = tl.load(clock + e * clock_e)
    step = tl.load(clock + e * clock_e + clock_i)
    kind, gain = tl.load(kinds + e), tl.load(floats + 11)
    tile = at // grid_k * NR + tl.arange(0, NR)
    j = tl.arange(0, NB)
    block = at % grid_k * NB + j
    if GROUP > 1:
        block = (at % grid_k * (NB // GROUP) + j // GROUP) * group + j % GROUP
    row = tile[:, None, None, None] * t + tl.arange(0, T)[None, :, None, None]
    column = block[None, None, :, None] * b + tl.arange(0, B)[None, None, None, :]
    inside = (row < R) & (column < K)
    if t != T:
        inside = inside & (tl.arange(0, T)[None, :, None, None] < t)
    if b != B:
        inside = inside & (tl.arange(0, B)[None, None, None, :] < b)
    if group != GROUP:
        inside = inside & ((j % GROUP)[None, None, :, None] < group)
    x = tl.load(source + e * source_e + row * source_r + column * source_k, inside, 0.0).to(tl.float32)
    g = tl.load(incoming + e * incoming_e + row * incoming_r + column * incoming_k, inside, 0.0).to(tl.float32)

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
    level = tl.full((NR, NB), 0.0, tl.float32)
    if OUTER:
        level = group_peak(peak, GROUP)
    if LEVELS:
        level += tl.load(levels + e)
    edge = tl.load(floats + 4)
    if SCALE_RANDOM:
        edge = scale_threshold(down, along, blocks, ints, floats, point, layer, seed, step)
    encode, decode, alpha = block_factors(z, level, edge, ints, floats, candidate_ints, candidate_floats, CODES)
    if OUTER:
        g = (g * tl.load(floats + 8)) * each(alpha)
    else:
        g = g * tl.load(alphas + e)
    wide_alpha = spread(alpha, g)
    total = pulled_back(
        x, g, spread(encode, g), spread(decode, g), wide_alpha, gain, kind, candidate_ints, candidate_floats,
        numbers, spline, DGE, SPLINE,
    )  # fmt: skip
    if CANDIDATES > 1:
        threshold = 0.0
        if RANDOM:
            first = block[None, None, :, None] * b // 16
            threshold = element_threshold(row, first, column, blocks * b, ints, point, layer, seed, step, B, LANE)
        factor = smaller(encode * gain, LARGEST)
        best = decoded(
            x, each(factor), each(decode), threshold, ints, floats, candidate_ints, candidate_floats, RANDOM, WIDE
        )
        for n in range(1, CANDIDATES):
            how_ints, how_floats = candidate_ints + n * CANDIDATE_INTS, candidate_floats + n * CANDIDATE_FLOATS
            encode, decode, _ = block_factors(z, level, edge, ints, floats, how_ints, how_floats, CODES)
            factor = smaller(encode * gain, LARGEST)
            y = decoded(x, each(factor), each(decode), threshold, ints, floats, how_ints, how_floats, RANDOM, WIDE)
            better = each(closer(y, best, x, alpha * tl.load(floats + 8), ERROR))
            other = pulled_back(
                x, g, spread(encode, g), spread(decode, g), wide_alpha, gain, kind, how_ints, how_floats,
                numbers + n * SLOPE_FLOATS, spline + n * spline_parts, DGE, SPLINE,
            )  # fmt: skip
            best, total = tl.where(better, y, best), tl.where(better, other, total)
        total = total + 0.0
    where = target + e * target_e + row * target_r + column * target_k
    tl.store(where, stored(total, target, INTERPRET), inside)
