"""The kernels: values of a whole stack in one launch, and what has to be known before."""
# mypy: ignore-errors
# ruff: noqa: RUF005, SIM102

import triton
import triton.language as tl

from dse.kernels.device.block_quantizer import FLOATS, INTS, bfloat16_values, block_values, load_floats, load_ints
from dse.kernels.device.element_groups import rotate
from dse.kernels.device.philox import draw
from dse.kernels.device.tiles import load_groups, positions, store_groups

SIGN_WORDS = tl.constexpr(80)


@triton.jit
def turned(
    at, row, group, R, K, stride_r, stride_k, size, factor, signs, ACROSS: tl.constexpr, RUN: tl.constexpr,
    GROUP: tl.constexpr, ROTATES: tl.constexpr, STAGES: tl.constexpr, MASK: tl.constexpr,
    FIT: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """The operand's elements after the rotation."""
    x = load_groups(at, row, group, R, K, stride_r, stride_k, ACROSS, RUN, FIT, INTERPRET)
    if ROTATES:
        if size > 1:
            x = rotate(x, signs, group, size, factor, GROUP, STAGES, MASK)
    return x


@triton.jit
def quantize_tile(
    source, target, first_row, first_group, R, K, source_r, source_k, target_r, target_k, padded,
    ints, floats, signs, level, key, matrix, more, peaks, factors,
    ACROSS: tl.constexpr, RUN: tl.constexpr, STORE: tl.constexpr, P: tl.constexpr, INNER: tl.constexpr,
    ROTATES: tl.constexpr, STAGES: tl.constexpr, BLOCKS: tl.constexpr, TILES: tl.constexpr, ENCODE: tl.constexpr,
    RANDOM: tl.constexpr, WIDE: tl.constexpr, THRESHOLD: tl.constexpr, SCALE_RANDOM: tl.constexpr,
    KNOWN_ROW: tl.constexpr, HOW: tl.constexpr, TERMS: tl.constexpr, VALUE: tl.constexpr, MORE: tl.constexpr,
    KEPT: tl.constexpr, UNDER: tl.constexpr, FIT: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """One tile of one operand, the ``matrix``-th of its member: read, rotate, quantize, write.

    KEPT: see ``block_values``; what stays out of the values goes to ``factors`` [., R], one for UNDER groups of 16, or
    (0) for a row.
    """
    GROUP: tl.constexpr = INNER if ACROSS else 1
    ROW: tl.constexpr = 1 if ACROSS else INNER
    kind = ints[0]
    size = ints[1]
    row, group = positions(first_row, first_group, ACROSS, P, INNER)
    MASK: tl.constexpr = -1 if KNOWN_ROW is None else KNOWN_ROW[25]
    x = turned(
        source, row, group, R, K, source_r, source_k, size, floats[9], signs,
        ACROSS, RUN, GROUP, ROTATES, STAGES, MASK, FIT, INTERPRET,
    )  # fmt: skip
    width = (K + size - 1) & -size
    y = x
    if kind == 2:
        tall = tl.minimum(ints[3], R)
        y, kept = block_values(
            x, row, group, R, width, tall, matrix, ints, floats, level, key, more, peaks,
            GROUP, ROW, BLOCKS, TILES, ENCODE, RANDOM, WIDE, THRESHOLD, SCALE_RANDOM, KNOWN_ROW,
            HOW, TERMS, VALUE, MORE, KEPT, INTERPRET,
        )  # fmt: skip
        if KEPT != 0:
            if UNDER == 0:
                tl.store(factors + row, kept, (row < R) & (group == 0))
            else:
                first = (row < R) & (group % UNDER == 0) & (group * 16 < padded)
                tl.store(factors + group // UNDER * R + row, kept, first)
    if kind == 1:
        y = bfloat16_values(x)
    if ROTATES and KNOWN_ROW is None:
        if width < padded:  # another member's rotation is wider: zeros, even beside a NaN
            z = ()
            for i in tl.static_range(16):
                z = z + (tl.where(group * 16 + i < width, y[i], 0.0),)
            y = z
    store_groups(target, y, row, group, R, padded, target_r, target_k, ACROSS, STORE, FIT)


@triton.jit(do_not_specialize=["layer", "point", "point2", "clock_e", "clock_i", "regions_k", "chunks_r", "operands"])
def quantize_kernel(
    source, source_e, source_r, source_k, R, K, clock, clock_e, clock_i, layer, matrices,
    target, target_e, target_r, target_k, padded, int_table, float_table, signs, signs_n, levels, levels_n, point,
    target2, target2_e, target2_r, target2_k, padded2, int_table2, float_table2, signs2, signs2_n, levels2, levels2_n,
    point2, more, more_n, more2, more2_n, peaks, peaks2, factors, factors_n, factors2, factors2_n,
    regions_k, chunks_r, operands, RR: tl.constexpr, RK: tl.constexpr, MANY: tl.constexpr,
    ALONG: tl.constexpr, ACROSS: tl.constexpr, RUN: tl.constexpr, STORE: tl.constexpr,
    P: tl.constexpr, INNER: tl.constexpr,
    ROTATES: tl.constexpr, STAGES: tl.constexpr, BLOCKS: tl.constexpr, TILES: tl.constexpr, ENCODE: tl.constexpr,
    RANDOM: tl.constexpr, WIDE: tl.constexpr, THRESHOLD: tl.constexpr, SCALE_RANDOM: tl.constexpr,
    P2: tl.constexpr, INNER2: tl.constexpr,
    ROTATES2: tl.constexpr, STAGES2: tl.constexpr, BLOCKS2: tl.constexpr, TILES2: tl.constexpr, ENCODE2: tl.constexpr,
    RANDOM2: tl.constexpr, WIDE2: tl.constexpr, THRESHOLD2: tl.constexpr, SCALE_RANDOM2: tl.constexpr,
    HOW: tl.constexpr, TERMS: tl.constexpr, VALUE: tl.constexpr, MORE: tl.constexpr,
    HOW2: tl.constexpr, TERMS2: tl.constexpr, VALUE2: tl.constexpr, MORE2: tl.constexpr,
    KEPT: tl.constexpr, UNDER: tl.constexpr, KEPT2: tl.constexpr, UNDER2: tl.constexpr,
    ONE: tl.constexpr, TWO: tl.constexpr, WIDTH: tl.constexpr, APART: tl.constexpr,
    FIT: tl.constexpr, FIT2: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """Quantizes regions of RR x RK elements of source [E, R, K]: ALONG K to target, ACROSS (along R) to target2.

    ACROSS, the operand is source transposed, [K, R]. For both, a program reads its region twice, or (APART) two
    neighboring programs read it at the same time, one of them from the cache. ONE, TWO: the row that all members have
    in the tables of the first and the second operand (``RecipeTable.common``), or None: it is read. HOW, TERMS, VALUE,
    MORE: of ``block_values``, ``more``: the table of the block options, of ``more_n`` fields; ``peaks`` int32 [E, R],
    of the second operand [E, K]: largest magnitudes of its tiles' rows; KEPT, UNDER: of ``quantize_tile``, ``factors``
    [E, factors_n, R], of the second operand [E, factors2_n, K]. WIDTH: the strides
    source_r and target2_k, or 0: not known. A member has ``matrices`` operands, which are quantized one by one and draw
    as one operand of all their rows; signs and levels are those of one operand, or (``signs_n`` > 1) of as many.
    """
    if WIDTH > 0:  # addresses are then the first one's, and constants
        source_r = WIDTH
        target2_k = WIDTH
    at_k, at_r = tl.program_id(0), tl.program_id(1)
    e = tl.program_id(2).to(tl.int64)
    which = 2
    if APART:
        which = at_k % 2
        at_k = at_k // 2
    if MANY:  # rows and operands beyond what the second and third axis of a grid hold; the last operand perhaps twice
        chunk = at_k // regions_k
        at_k = at_k % regions_k
        at_r += chunk % chunks_r * tl.num_programs(1)
        e = tl.minimum(e + chunk // chunks_r * tl.num_programs(2), operands - 1)
    first_r = at_r * RR
    first_k = at_k * RK
    member = e // matrices
    matrix = (e % matrices).to(tl.int32)
    seed = tl.load(clock + member * clock_e)
    step = tl.load(clock + member * clock_e + clock_i)
    source += e * source_e
    if ALONG and which != 1:
        ints = load_ints(int_table + member * INTS, ONE)
        floats = load_floats(float_table + member * FLOATS, ONE)
        at = levels + e // levels_n * 2
        level = (tl.load(at), tl.load(at + 1))
        key = (point, layer, seed, step)
        ROWS: tl.constexpr = P // INNER
        for i in range((RR // ROWS) * (RK // (16 * INNER))):
            row = first_r + (i // (RK // (16 * INNER))) * ROWS
            group = first_k // 16 + (i % (RK // (16 * INNER))) * INNER
            if (row < R) & (group * 16 < padded):
                quantize_tile(
                    source, target + e * target_e, row, group, R, K, source_r, source_k, target_r, target_k, padded,
                    ints, floats, signs + e // signs_n * SIGN_WORDS, level, key, matrix, more + member * more_n,
                    peaks + e * R, factors + e * R * factors_n,
                    False, RUN, STORE, P, INNER, ROTATES, STAGES, BLOCKS, TILES, ENCODE,
                    RANDOM, WIDE, THRESHOLD, SCALE_RANDOM, ONE, HOW, TERMS, VALUE, MORE, KEPT, UNDER, FIT, INTERPRET,
                )  # fmt: skip
    if ACROSS and which != 0:
        ints2 = load_ints(int_table2 + member * INTS, TWO)
        floats2 = load_floats(float_table2 + member * FLOATS, TWO)
        at2 = levels2 + e // levels2_n * 2
        level2 = (tl.load(at2), tl.load(at2 + 1))
        key2 = (point2, layer, seed, step)
        GROUPS: tl.constexpr = P2 // INNER2
        for i in range((RR // (16 * GROUPS)) * (RK // INNER2)):
            group = first_r // 16 + (i // (RK // INNER2)) * GROUPS
            row = first_k + (i % (RK // INNER2)) * INNER2
            if (row < K) & (group * 16 < padded2):
                quantize_tile(
                    source, target2 + e * target2_e, row, group, K, R, source_k, source_r, target2_r, target2_k,
                    padded2, ints2, floats2, signs2 + e // signs2_n * SIGN_WORDS, level2, key2, matrix,
                    more2 + member * more2_n, peaks2 + e * K, factors2 + e * K * factors2_n,
                    True, RUN, STORE, P2, INNER2, ROTATES2, STAGES2, BLOCKS2, TILES2, ENCODE2,
                    RANDOM2, WIDE2, THRESHOLD2, SCALE_RANDOM2, TWO, HOW2, TERMS2, VALUE2, MORE2, KEPT2, UNDER2,
                    FIT2, INTERPRET,
                )  # fmt: skip


@triton.jit(do_not_specialize=["layer", "point", "clock_e", "clock_i"])
def signs_kernel(
    fixed, signs, size_table, random_table, clock, clock_e, clock_i, layer, point, matrices, WORDS: tl.constexpr
):  # fmt: skip
    """Signs of each operand's rotation [E, 80] (see ``flip``): drawn, or a copy of the fixed ones."""
    e = tl.program_id(0).to(tl.int64)
    member = e // matrices
    at = tl.arange(0, WORDS)
    mask = tl.load(fixed + member * SIGN_WORDS + at)
    if tl.load(random_table + member) != 0:
        size = tl.load(size_table + member * INTS + 1)
        seed = tl.load(clock + member * clock_e)
        step = tl.load(clock + member * clock_e + clock_i)
        first = (e % matrices).to(tl.int32) * ((size + 15) // 16)  # a row of signs for each matrix
        words = draw(first + at, point | (8 << 16), layer, seed, step)
        mask = tl.zeros((WORDS,), tl.int32)
        for i in tl.static_range(16):
            top = (words[i // 4] >> (8 * (i % 4) + 7)) & 1
            mask |= top.to(tl.int32) << i
        if size < 16:
            mask &= (1 << size) - 1
        if size <= 2:
            mask |= mask << 2
        if size <= 4:
            mask |= mask << 4
        if size <= 8:
            mask |= mask << 8
    tl.store(signs + e * SIGN_WORDS + at, mask)
    lane = tl.arange(0, 16)
    first = tl.sum(tl.where(at == 0, mask, 0), 0)
    tl.store(signs + e * SIGN_WORDS + WORDS + lane, 0x3F800000 | ((first >> lane) << 31))
