"""Tensor scales: the largest magnitudes of an operand, and the scale that they make."""
# mypy: ignore-errors
# ruff: noqa: RET505, SIM102

import triton
import triton.language as tl

from dse.kernels.device.block_quantizer import FLOATS, INTS
from dse.kernels.device.element_groups import butterflies, flip, peak
from dse.kernels.device.lattice import LARGEST, bits_of, float_of, smaller
from dse.kernels.device.quantize import SIGN_WORDS
from dse.kernels.device.tiles import load_groups, load_pairs, positions


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


@triton.jit
def group_peaks(
    x, signs, group, size, factor, GROUP: tl.constexpr, ROTATES: tl.constexpr, STAGES: tl.constexpr,
    PLAIN: tl.constexpr, MASK: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """The largest magnitude of each group behind the rotation and, where PLAIN, before it (else 0)."""
    plain = tl.full(x[0].shape, 0, tl.int32)
    if PLAIN:
        plain = peak(x, INTERPRET)
    if ROTATES:
        if size > 1:
            x = butterflies(flip(x, signs, group, size, STAGES, MASK), size, GROUP, STAGES)
    z = peak(x, INTERPRET)
    if ROTATES:
        if size > 1:  # rounding keeps order: the largest product is the largest's
            z = bits_of(float_of(z) * factor)
    return z, plain


@triton.jit
def tile_peaks(
    at, signs, first_row, first_group, R, K, stride_r, stride_k, size, factor, ACROSS: tl.constexpr, RUN: tl.constexpr,
    P: tl.constexpr, INNER: tl.constexpr, ROTATES: tl.constexpr, STAGES: tl.constexpr, PLAIN: tl.constexpr,
    MASK: tl.constexpr, PAIRS: tl.constexpr, FIT: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """``group_peaks`` of a tile, the larger of two rows where it is read in PAIRS."""
    row, group = positions(first_row, first_group, ACROSS, P, INNER)
    GROUP: tl.constexpr = INNER if ACROSS else 1
    if PAIRS:
        x, y = load_pairs(at, row, group, R, K, stride_r, stride_k, FIT, INTERPRET)
        z, plain = group_peaks(x, signs, group, size, factor, GROUP, ROTATES, STAGES, PLAIN, MASK, INTERPRET)
        z2, plain2 = group_peaks(y, signs, group, size, factor, GROUP, ROTATES, STAGES, PLAIN, MASK, INTERPRET)
        return tl.maximum(z, z2), tl.maximum(plain, plain2)
    else:
        x = load_groups(at, row, group, R, K, stride_r, stride_k, ACROSS, RUN, FIT, INTERPRET)
        return group_peaks(x, signs, group, size, factor, GROUP, ROTATES, STAGES, PLAIN, MASK, INTERPRET)


@triton.jit(
    do_not_specialize=["clock_e", "clock_i", "memory_e", "memory2_e", "regions_r", "regions_k"],
    do_not_specialize_on_alignment=["memory", "memory2"],
)
def peak_kernel(
    source, source_e, source_r, source_k, R, K, clock, clock_e, clock_i, matrices,
    partial, int_table, float_table, signs, signs_n, level_table, memory, memory_e,
    partial2, level_table2, memory2, memory2_e,
    regions_r, regions_k, RR: tl.constexpr, RK: tl.constexpr,
    ACROSS: tl.constexpr, RUN: tl.constexpr, P: tl.constexpr, INNER: tl.constexpr,
    ROTATES: tl.constexpr, STAGES: tl.constexpr, TWO: tl.constexpr, PLAIN: tl.constexpr,
    ROW: tl.constexpr, WIDTH: tl.constexpr, PAIRS: tl.constexpr, FIT: tl.constexpr,
    SAMPLING: tl.constexpr, HELD: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """The largest magnitude of each region of source [E, R, K] (ACROSS: of its transpose, an operand [K, R]).

    TWO: the tensor is two operands, the second of them without a rotation (any order of its elements will do): their
    maxima come from one read, the second's in ``partial2`` where they are other ones (PLAIN: before the rotation).
    ROW: size, bits of the factor and sign bits of every member's rotation, or None: they are read. WIDTH: the
    stride source_r, or 0: not known. PAIRS: of BF16 numbers side by side in a row, as one int32 each; K, RK and the
    strides count pairs.
    Regions come in descending order: those that the quantizer reads first are read last, and still in the cache.
    """
    if WIDTH > 0:
        source_r = WIDTH
    pid = tl.num_programs(0) - 1 - tl.program_id(0)
    e = (pid // (regions_r * regions_k)).to(tl.int64)
    member = e // matrices
    region = pid % (regions_r * regions_k)
    first_r = (region // regions_k) * RR
    first_k = (region % regions_k) * RK
    due, _ = is_due(level_table + member * 4, memory, memory_e, clock, clock_e, clock_i, member, SAMPLING, HELD)
    if TWO:
        due2, _ = is_due(level_table2 + member * 4, memory2, memory2_e, clock, clock_e, clock_i, member, SAMPLING, HELD)
        due = due | due2
    if due:
        MASK: tl.constexpr = -1 if ROW is None else ROW[2]
        if ROW is None:
            size = tl.load(int_table + member * INTS + 1)
            factor = tl.load(float_table + member * FLOATS + 9)
        else:
            size = tl.full((), ROW[0], tl.int32)
            factor = float_of(tl.full((), ROW[1], tl.int32))
        largest = tl.full((P,), 0, tl.int32)
        largest2 = tl.full((P,), 0, tl.int32)
        if ACROSS:
            for i in range((RR // (16 * (P // INNER))) * (RK // INNER)):
                z, plain = tile_peaks(
                    source + e * source_e, signs + e // signs_n * SIGN_WORDS,
                    first_k + (i % (RK // INNER)) * INNER, first_r // 16 + (i // (RK // INNER)) * (P // INNER),
                    K, R, source_k, source_r, size, factor, True, RUN, P, INNER, ROTATES, STAGES, PLAIN,
                    MASK, PAIRS, FIT, INTERPRET,
                )  # fmt: skip
                largest = tl.maximum(largest, z)
                largest2 = tl.maximum(largest2, plain)
        else:
            for i in range((RR // (P // INNER)) * (RK // (16 * INNER))):
                z, plain = tile_peaks(
                    source + e * source_e, signs + e // signs_n * SIGN_WORDS,
                    first_r + (i // (RK // (16 * INNER))) * (P // INNER),
                    first_k // 16 + (i % (RK // (16 * INNER))) * INNER,
                    R, K, source_r, source_k, size, factor, False, RUN, P, INNER, ROTATES, STAGES, PLAIN,
                    MASK, PAIRS, FIT, INTERPRET,
                )  # fmt: skip
                largest = tl.maximum(largest, z)
                largest2 = tl.maximum(largest2, plain)
        tl.store(partial + pid, tl.max(largest, 0))
        if PLAIN:
            tl.store(partial2 + pid, tl.max(largest2, 0))


@triton.jit
def write_level(
    partial, count, level_table, constants, memory, memory_e, levels, alphas, clock, clock_e, clock_i, e,
    member, N: tl.constexpr, LOOPS: tl.constexpr, SAMPLING: tl.constexpr, HELD: tl.constexpr,
):  # fmt: skip
    """Operand e, of a member: see ``level_kernel``."""
    mode = tl.load(level_table + member * 4)
    convention = tl.load(level_table + member * 4 + 2)
    target = tl.load(constants + member * 4)
    inverse = tl.load(constants + member * 4 + 1)
    due, held = is_due(level_table + member * 4, memory, memory_e, clock, clock_e, clock_i, member, SAMPLING, HELD)
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
                tl.store(memory + member * memory_e, tl.where(g < float("inf"), g, 0.0))
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
    tl.store(alphas + e, alpha * tl.load(constants + member * 4 + 2))


@triton.jit(
    do_not_specialize=["count", "count2", "clock_e", "clock_i", "memory_e", "memory2_e", "matrices"],
    do_not_specialize_on_alignment=["memory", "memory2"],
)
def level_kernel(
    clock, clock_e, clock_i, matrices,
    partial, count, level_table, constants, memory, memory_e, levels, alphas,
    partial2, count2, level_table2, constants2, memory2, memory2_e, levels2, alphas2,
    N: tl.constexpr, LOOPS: tl.constexpr, SAMPLING: tl.constexpr, HELD: tl.constexpr,
):  # fmt: skip
    """Operand e's tensor scale: ``levels`` [E, 2] (what Z is multiplied by, alpha), ``alphas`` [E] with 1 / gain.

    A member has ``matrices`` operands. ``level_table``: int32, a row of 4 for each member (0 none, 1 current, 2 held;
    every; 1 encode, 2 with the divisor; -);
    ``constants``: float32, as many (T c, fp32(1 / c), fp32(1 / gain), -). A grid [E, 2] does so for two operands.
    """
    e = tl.program_id(0).to(tl.int64)
    if tl.program_id(1) == 0:
        write_level(
            partial, count, level_table, constants, memory, memory_e, levels, alphas, clock, clock_e, clock_i, e,
            e // matrices, N, LOOPS, SAMPLING, HELD,
        )  # fmt: skip
    else:
        write_level(
            partial2, count2, level_table2, constants2, memory2, memory2_e, levels2, alphas2, clock, clock_e, clock_i,
            e, e // matrices, N, LOOPS, SAMPLING, HELD,
        )  # fmt: skip
