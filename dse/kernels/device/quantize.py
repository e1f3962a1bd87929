"""The kernels: values of a whole stack in one launch, and what has to be known before."""
# mypy: ignore-errors
# ruff: noqa: RUF005, RUF059, SIM102

import triton
import triton.language as tl

from dse.kernels.device.block_quantizer import FLOATS, INTS, bfloat16_values, block_values, load_floats, load_ints
from dse.kernels.device.element_groups import peak, rotate
from dse.kernels.device.lattice import LARGEST, float_of, smaller
from dse.kernels.device.philox import draw
from dse.kernels.device.tiles import load_groups, positions, store_groups

SIGN_WORDS = tl.constexpr(64)


@triton.jit
def turned(at, row, group, R, K, stride_r, stride_k, size, factor, signs, ACROSS: tl.constexpr, RUN: tl.constexpr,
           GROUP: tl.constexpr, ROTATES: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """The operand's elements after the rotation."""
    x = load_groups(at, row, group, R, K, stride_r, stride_k, ACROSS, RUN)
    if ROTATES:
        if size > 1:
            mask = tl.load(signs + (group & ((size - 1) >> 4)))  # sizes are powers of two
            x = rotate(x, size, factor, mask, GROUP, STAGES)
    return x


@triton.jit
def quantize_tile(
    source, target, first_row, first_group, R, K, source_r, source_k, target_r, target_k, padded,
    ints, floats, signs, level, key,
    ACROSS: tl.constexpr, RUN: tl.constexpr, STORE: tl.constexpr, P: tl.constexpr, INNER: tl.constexpr,
    ROTATES: tl.constexpr, STAGES: tl.constexpr, BLOCKS: tl.constexpr, TILES: tl.constexpr, ENCODE: tl.constexpr,
    RANDOM: tl.constexpr, WIDE: tl.constexpr, THRESHOLD: tl.constexpr, SCALE_RANDOM: tl.constexpr,
    INTERPRET: tl.constexpr,
):  # fmt: skip
    """One tile of one member: read, rotate, quantize, write."""
    GROUP: tl.constexpr = INNER if ACROSS else 1
    ROW: tl.constexpr = 1 if ACROSS else INNER
    kind = ints[0]
    size = ints[1]
    row, group = positions(first_row, first_group, ACROSS, P, INNER)
    x = turned(
        source, row, group, R, K, source_r, source_k, size, floats[9], signs, ACROSS, RUN, GROUP, ROTATES, STAGES
    )
    width = (K + size - 1) & -size
    y = x
    if kind == 2:
        y = block_values(
            x, row, group, width, ints, floats, level, key,
            GROUP, ROW, BLOCKS, TILES, ENCODE, RANDOM, WIDE, THRESHOLD, SCALE_RANDOM, INTERPRET,
        )  # fmt: skip
    if kind == 1:
        y = bfloat16_values(x)
    if ROTATES:
        if width < padded:  # another member's rotation is wider: zeros, even beside a NaN
            z = ()
            for i in tl.static_range(16):
                z = z + (tl.where(group * 16 + i < width, y[i], 0.0),)
            y = z
    store_groups(target, y, row, group, R, padded, target_r, target_k, ACROSS, STORE)


@triton.jit(do_not_specialize=["layer", "point", "point2", "clock_e", "clock_i", "regions_k"])
def quantize_kernel(
    source, source_e, source_r, source_k, R, K, clock, clock_e, clock_i, layer,
    target, target_e, target_r, target_k, padded, int_table, float_table, signs, levels, point,
    target2, target2_e, target2_r, target2_k, padded2, int_table2, float_table2, signs2, levels2, point2,
    regions_k, RR: tl.constexpr, RK: tl.constexpr, MANY: tl.constexpr,
    ALONG: tl.constexpr, ACROSS: tl.constexpr, RUN: tl.constexpr, STORE: tl.constexpr,
    P: tl.constexpr, INNER: tl.constexpr,
    ROTATES: tl.constexpr, STAGES: tl.constexpr, BLOCKS: tl.constexpr, TILES: tl.constexpr, ENCODE: tl.constexpr,
    RANDOM: tl.constexpr, WIDE: tl.constexpr, THRESHOLD: tl.constexpr, SCALE_RANDOM: tl.constexpr,
    P2: tl.constexpr, INNER2: tl.constexpr,
    ROTATES2: tl.constexpr, STAGES2: tl.constexpr, BLOCKS2: tl.constexpr, TILES2: tl.constexpr, ENCODE2: tl.constexpr,
    RANDOM2: tl.constexpr, WIDE2: tl.constexpr, THRESHOLD2: tl.constexpr, SCALE_RANDOM2: tl.constexpr,
    INTERPRET: tl.constexpr,
):  # fmt: skip
    """Quantizes regions of RR x RK elements of source [E, R, K]: ALONG K to target, ACROSS (along R) to target2.

    ACROSS, the operand is source transposed, [K, R]. For both, neighboring programs read the same region at the same
    time, one of them from the cache; one program for both would need the registers of both.
    """
    at_k, at_r = tl.program_id(0), tl.program_id(1)
    e = tl.program_id(2).to(tl.int64)
    which = 2
    if ALONG and ACROSS:
        which = at_k % 2
        at_k = at_k // 2
    if MANY:  # rows beyond what the second axis of a grid holds
        at_r += at_k // regions_k * tl.num_programs(1)
        at_k = at_k % regions_k
    first_r = at_r * RR
    first_k = at_k * RK
    seed = tl.load(clock + e * clock_e)
    step = tl.load(clock + e * clock_e + clock_i)
    source += e * source_e
    if ALONG and which != 1:
        ints = load_ints(int_table + e * INTS)
        floats = load_floats(float_table + e * FLOATS)
        level = (tl.load(levels + e * 2), tl.load(levels + e * 2 + 1))
        key = (point, layer, seed, step)
        ROWS: tl.constexpr = P // INNER
        for i in range((RR // ROWS) * (RK // (16 * INNER))):
            row = first_r + (i // (RK // (16 * INNER))) * ROWS
            group = first_k // 16 + (i % (RK // (16 * INNER))) * INNER
            if (row < R) & (group * 16 < padded):
                quantize_tile(
                    source, target + e * target_e, row, group, R, K, source_r, source_k, target_r, target_k, padded,
                    ints, floats, signs + e * SIGN_WORDS, level, key,
                    False, RUN, STORE, P, INNER, ROTATES, STAGES, BLOCKS, TILES, ENCODE,
                    RANDOM, WIDE, THRESHOLD, SCALE_RANDOM, INTERPRET,
                )  # fmt: skip
    if ACROSS and which != 0:
        ints2 = load_ints(int_table2 + e * INTS)
        floats2 = load_floats(float_table2 + e * FLOATS)
        level2 = (tl.load(levels2 + e * 2), tl.load(levels2 + e * 2 + 1))
        key2 = (point2, layer, seed, step)
        GROUPS: tl.constexpr = P2 // INNER2
        for i in range((RR // (16 * GROUPS)) * (RK // INNER2)):
            group = first_r // 16 + (i // (RK // INNER2)) * GROUPS
            row = first_k + (i % (RK // INNER2)) * INNER2
            if (row < K) & (group * 16 < padded2):
                quantize_tile(
                    source, target2 + e * target2_e, row, group, K, R, source_k, source_r, target2_r, target2_k,
                    padded2, ints2, floats2, signs2 + e * SIGN_WORDS, level2, key2,
                    True, RUN, STORE, P2, INNER2, ROTATES2, STAGES2, BLOCKS2, TILES2, ENCODE2,
                    RANDOM2, WIDE2, THRESHOLD2, SCALE_RANDOM2, INTERPRET,
                )  # fmt: skip


@triton.jit
def is_due(table, memory, memory_e, clock, clock_e, clock_i, e, SAMPLING: tl.constexpr, HELD: tl.constexpr):
    """Whether member e's tensor scale is measured now (table: LEVEL_FIELDS), and the value that is held, 0: none."""
    mode = tl.load(table)
    held = 0.0
    due = mode > 0
    if HELD:
        if mode == 2:
            held = tl.load(memory + e * memory_e)
            held = tl.where(held < float("inf"), held, 0.0)
            due = held == 0
            if SAMPLING:
                due = due | (tl.load(clock + e * clock_e + clock_i) % tl.load(table + 1) == 0)
    return due, held


@triton.jit(do_not_specialize=["clock_e", "clock_i", "memory_e", "regions_r", "regions_k"])
def peak_kernel(
    source, source_e, source_r, source_k, R, K, clock, clock_e, clock_i, partial, int_table, float_table, signs,
    level_table, memory, memory_e, regions_r, regions_k, RR: tl.constexpr, RK: tl.constexpr,
    ACROSS: tl.constexpr, RUN: tl.constexpr, P: tl.constexpr, INNER: tl.constexpr,
    ROTATES: tl.constexpr, STAGES: tl.constexpr, SAMPLING: tl.constexpr, HELD: tl.constexpr,
):  # fmt: skip
    """The largest magnitude of each region of source [E, R, K] (ACROSS: of its transpose, an operand [K, R])."""
    pid = tl.program_id(0)
    e = (pid // (regions_r * regions_k)).to(tl.int64)
    region = pid % (regions_r * regions_k)
    first_r = (region // regions_k) * RR
    first_k = (region % regions_k) * RK
    due, held = is_due(level_table + e * 4, memory, memory_e, clock, clock_e, clock_i, e, SAMPLING, HELD)
    if due:
        size = tl.load(int_table + e * INTS + 1)
        factor = tl.load(float_table + e * FLOATS + 9)
        largest = tl.full((P,), 0, tl.int32)
        if ACROSS:
            for i in range((RR // (16 * (P // INNER))) * (RK // INNER)):
                row, group = positions(
                    first_k + (i % (RK // INNER)) * INNER, first_r // 16 + (i // (RK // INNER)) * (P // INNER),
                    True, P, INNER,
                )  # fmt: skip
                x = turned(source + e * source_e, row, group, K, R, source_k, source_r, size, factor,
                           signs + e * SIGN_WORDS, True, RUN, INNER, ROTATES, STAGES)  # fmt: skip
                largest = tl.maximum(largest, peak(x))
        else:
            for i in range((RR // (P // INNER)) * (RK // (16 * INNER))):
                row, group = positions(
                    first_r + (i // (RK // (16 * INNER))) * (P // INNER),
                    first_k // 16 + (i % (RK // (16 * INNER))) * INNER, False, P, INNER,
                )  # fmt: skip
                x = turned(source + e * source_e, row, group, R, K, source_r, source_k, size, factor,
                           signs + e * SIGN_WORDS, False, RUN, 1, ROTATES, STAGES)  # fmt: skip
                largest = tl.maximum(largest, peak(x))
        tl.store(partial + pid, tl.max(largest, 0))


@triton.jit(do_not_specialize=["count", "clock_e", "clock_i", "memory_e"])
def level_kernel(
    partial, count, clock, clock_e, clock_i, level_table, constants, memory, memory_e, levels, alphas,
    N: tl.constexpr, LOOPS: tl.constexpr, SAMPLING: tl.constexpr, HELD: tl.constexpr,
):  # fmt: skip
    """Member e's tensor scale: ``levels`` [E, 2] (what Z is multiplied by, alpha), ``alphas`` [E] with 1 / gain.

    ``level_table``: int32 [E, 4] (0 none, 1 current, 2 held; every; 1 encode, 2 with the divisor; -);
    ``constants``: float32 [E, 4] (T c, fp32(1 / c), fp32(1 / gain), -).
    """
    e = tl.program_id(0).to(tl.int64)
    mode = tl.load(level_table + e * 4)
    convention = tl.load(level_table + e * 4 + 2)
    target = tl.load(constants + e * 4)
    inverse = tl.load(constants + e * 4 + 1)
    due, held = is_due(level_table + e * 4, memory, memory_e, clock, clock_e, clock_i, e, SAMPLING, HELD)
    alpha = 1.0
    multiplier = inverse
    if mode > 0:
        g = held
        if due:
            largest = tl.full((N,), 0, tl.int32)
            for i in range(LOOPS):
                at = i * N + tl.arange(0, N)
                largest = tl.maximum(largest, tl.load(partial + e * count + at, at < count, 0))
            g = float_of(tl.max(largest, 0))
            if HELD:  # a sample that is not finite: what is held stays
                g = tl.where((held == 0) | (g < float("inf")), g, held)
        if HELD and SAMPLING:
            if mode == 2:
                tl.store(memory + e * memory_e, tl.where(g < float("inf"), g, 0.0))
        if convention == 0:
            s = smaller(tl.div_rn(target, g), LARGEST)
            s = tl.where((g == 0) | (s == 0), 1.0, s)
            s = tl.where(g < float("inf"), s, float("nan"))
            alpha = tl.div_rn(1.0, s)
            multiplier = s * inverse
        else:
            g = tl.where(g == 0, 1.0, tl.where(g < float("inf"), g, float("nan")))
            if convention == 2:
                g = tl.div_rn(g, target)
            alpha = tl.where(g == 0, 1.0, g)
    tl.store(levels + e * 2, multiplier)
    tl.store(levels + e * 2 + 1, alpha)
    tl.store(alphas + e, alpha * tl.load(constants + e * 4 + 2))


@triton.jit(do_not_specialize=["layer", "point", "clock_e", "clock_i"])
def signs_kernel(fixed, signs, size_table, random_table, clock, clock_e, clock_i, layer, point, WORDS: tl.constexpr):
    """Sign bits of each member's rotation [E, 64]: drawn, or a copy of the fixed ones."""
    e = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, WORDS)
    mask = tl.load(fixed + e * WORDS + at)
    if tl.load(random_table + e) != 0:
        size = tl.load(size_table + e * INTS + 1)
        seed = tl.load(clock + e * clock_e)
        step = tl.load(clock + e * clock_e + clock_i)
        words = draw(at, point | (8 << 16), layer, seed, step)
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
    tl.store(signs + e * WORDS + at, mask)
