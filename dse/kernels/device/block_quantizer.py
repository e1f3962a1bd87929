"""A member's quantizer on groups of 16: the twin of dse.numerics.block and dse.numerics.techniques.conventions."""
# mypy: ignore-errors
# ruff: noqa: RUF005, RUF059, SIM102

import triton
import triton.language as tl

from dse.kernels.device.block_choice import block_total, closer_16, total_16
from dse.kernels.device.block_factors import drawn_threshold, shifted, tensor_level
from dse.kernels.device.corrections import eden_sums_16, new_scale
from dse.kernels.device.element_groups import merge, merge_blocks, peak
from dse.kernels.device.lattice import (
    LARGEST,
    bits_of,
    float_of,
    listed_16,
    magnitude,
    nearest_even_16,
    nearest_even_uniform_16,
    round_scale,
    scale_lattice,
    smaller,
    stochastic_16,
    stochastic_known_16,
    stochastic_wide_16,
    threshold_16,
    with_sign,
)
from dse.kernels.device.micro_exponents import beyond, halvings_16, inverse

INTS = tl.constexpr(16)
FLOATS = tl.constexpr(16)
MORE_FIELDS, CANDIDATE_FIELDS = tl.constexpr(10), tl.constexpr(10)
"""Of dse.fused.block_rows: of a member, and of each of its candidates."""


@triton.jit
def load_ints(at, ROW: tl.constexpr):
    """dse.fused.rows.INT_FIELDS of one member; ROW: of all of them where they are known, else None."""
    fields = ()
    for i in tl.static_range(13):
        if ROW is None:
            fields = fields + (tl.load(at + i),)
        else:
            fields = fields + (tl.full((), ROW[i], tl.int32),)
    return fields


@triton.jit
def load_floats(at, ROW: tl.constexpr):
    """dse.fused.rows.FLOAT_FIELDS; ROW: their bits, behind the ints."""
    fields = ()
    for i in tl.static_range(11):
        if ROW is None:
            fields = fields + (tl.load(at + i),)
        else:
            fields = fields + (float_of(tl.full((), ROW[13 + i], tl.int32)),)
    return fields


@triton.jit
def spread(value, like):
    """A scalar in the shape of ``like``; like * 0 + value would be NaN beside an infinity."""
    return tl.full(like.shape, value, tl.float32)


@triton.jit
def load_more(at, ROW: tl.constexpr, FIRST: tl.constexpr, COUNT: tl.constexpr):
    """COUNT fields from FIRST on of dse.fused.block_rows, as int32; ROW: of all of them where they are known."""
    fields = ()
    for i in tl.static_range(COUNT):
        if ROW is None:
            fields = fields + (tl.load(at + FIRST + i),)
        else:
            fields = fields + (tl.full((), ROW[FIRST + i], tl.int32),)
    return fields


@triton.jit
def block_places(group, block, width):
    """The number in its row of each position's block, and how many blocks a row has."""
    extent = tl.minimum(block, width)
    return group * 16 // extent, (width + extent - 1) // extent


@triton.jit
def scales(
    z, s, row, group, width, tall, ints, floats, emax, c, alpha, key, more, how,
    ENCODE: tl.constexpr, SCALE_RANDOM: tl.constexpr, CANDIDATES: tl.constexpr, CODES: tl.constexpr,
):  # fmt: skip
    """Encode and decode factors of each position from the maxima of its block.

    ``s`` [P]: the scale before it is rounded, under the decode convention; ``emax``: the largest element, ``c``: the
    value that z is mapped to; ``alpha`` [P]; ``more``, ``how``: of the block options and of a candidate, where there
    are several.
    """
    kind, rotation, block, tile, emode, emin, eman, ebits, smode, smin, sman, sbits, convention = ints
    _, ethreshold, eoffset, smax, slow, sthreshold, soffset, zero, gain, factor, _ = floats
    purpose, layer, seed, step = key
    encodes = convention & 1
    unquantized = convention & 2
    if ENCODE:
        if encodes != 0:
            s = smaller(tl.div_rn(spread(c, z), tl.where(z == 0, 1.0, z)) * alpha, LARGEST)
    v, lattice = scale_lattice(s, slow, smax, smin, sman)
    if SCALE_RANDOM:
        threshold = spread(sthreshold, v)
        if smode == 2:
            number, count = block_places(group, block, width)
            threshold = drawn_threshold(row // tall, number, count, sbits, purpose | (1 << 8), layer, seed, step)
        s_q = round_scale(v, lattice, smode, soffset, threshold)
    else:
        s_q = round_scale(v, lattice, smode, soffset, sthreshold)
    if CODES:
        s_q = shifted(s_q, how[2], smin, sman, more[5], more[6], more[7])
    s_q = tl.where(s_q == 0, zero, s_q)
    used = tl.where(unquantized != 0, s, s_q)
    decode = s_q
    if ENCODE:
        if encodes != 0:
            encode = tl.div_rn(used, alpha)
            decode = tl.div_rn(spread(1.0, s_q), s_q)
        else:
            encode = tl.div_rn(spread(1.0, used), used * alpha)
    else:
        encode = tl.div_rn(spread(1.0, used), used * alpha)
    hidden = z == float("inf")  # an infinity that would come out finite
    if CANDIDATES > 1:
        hidden = hidden & (how[3] != 0)
    else:
        hidden = hidden & (emax * decode < float("inf"))
    decode = tl.where(hidden, float("nan"), decode)
    return smaller(smaller(encode, LARGEST) * gain, LARGEST), decode


@triton.jit
def rounded_16(
    m, emin, man, mode, bits, offset, threshold, index, key,
    RANDOM: tl.constexpr, WIDE: tl.constexpr, THRESHOLD: tl.constexpr,
    EMIN: tl.constexpr, MAN: tl.constexpr, BITS: tl.constexpr, UNIFORM: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """Magnitudes within a format's range on its grid; BITS: of a stochastic rounding that is compiled in, else -1.

    UNIFORM: whether the grid has one step, where that is known.
    """
    purpose, layer, seed, step = key
    q = m
    if RANDOM and BITS >= 0:
        q = stochastic_known_16(m, EMIN, MAN, BITS, index, purpose, layer, seed, step, INTERPRET)
    elif RANDOM:
        if mode == 1:
            q = stochastic_16(m, emin, man, bits, index, purpose, layer, seed, step, INTERPRET)
    if WIDE:
        if mode == 3:
            q = stochastic_wide_16(m, emin, man, bits, index, purpose, layer, seed, step)
    if THRESHOLD:
        if mode == 2:
            q = threshold_16(m, emin, man, offset, threshold)
    if mode == 0:
        if UNIFORM:
            q = nearest_even_uniform_16(m, emin, man)
        else:
            q = nearest_even_16(m, emin, man)
    return q


@triton.jit
def measured(
    z, x, row, group, rows, width, tall, block, more, GROUP: tl.constexpr, ROW: tl.constexpr, BLOCKS: tl.constexpr,
    TILES: tl.constexpr, SUMS: tl.constexpr, TERMS: tl.constexpr, VALUE: tl.constexpr,
):  # fmt: skip
    """The statistic of each position's block from its largest magnitude and sums of the elements' terms."""
    first, second = float_of(more[1]), float_of(more[2])
    one = ()
    two = ()
    for i in tl.static_range(16):
        terms = TERMS(x[i], z, first)
        one = one + (terms[0],)
        two = two + (terms[1],)
    sum_one = block_total(total_16(one), GROUP, ROW, BLOCKS, TILES) + 0.0
    sum_two = sum_one
    if SUMS > 1:
        sum_two = block_total(total_16(two), GROUP, ROW, BLOCKS, TILES) + 0.0
    high = tl.minimum(rows - row // tall * tall, tall)
    wide = tl.minimum(width - group * 16 // block * block, block)
    count = tl.maximum(tl.maximum(high, 0) * wide, 1).to(tl.float32)
    return VALUE(z, sum_one, sum_two, count, first, second)


@triton.constexpr_function
def exact_multiples(row):
    """Whether elements times their scale and its small multiples are exact: of short scales far from FP32's limits."""
    emin, man, decodes, largest = row[9], row[10] >> 23, row[12] & 1 == 0, row[13 + 3]
    return decodes and man <= 8 and emin > (127 - 64) << 23 and largest < (127 + 64) << 23


@triton.jit
def candidate_values(
    x, common, ints, floats, key, more, more_at, n: tl.constexpr,
    ENCODE: tl.constexpr, RANDOM: tl.constexpr, WIDE: tl.constexpr, THRESHOLD: tl.constexpr,
    SCALE_RANDOM: tl.constexpr, KNOWN: tl.constexpr, SHORT: tl.constexpr, HOW: tl.constexpr, MORE: tl.constexpr,
    ROW: tl.constexpr, TILES: tl.constexpr, KEPT: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """Magnitudes of the decoded values under the ``n``-th candidate, the largest that they can be times alpha, and what
    a correction needs: the elements times the candidate's multiple, and their scale. KEPT: 2: it stays out of values.

    KNOWN: the table's row where members share it, else None; SHORT: whether a stochastic rounding is compiled in.
    """
    kind, rotation, block, tile, emode, emin, eman, ebits, smode, smin, sman, sbits, convention = ints
    emax, ethreshold, eoffset, smax, slow, sthreshold, soffset, zero, gain, factor, c = floats
    z, divided, multiplier, alpha, row, group, width, tall, index = common
    CANDIDATES: tl.constexpr = 1 if HOW is None else HOW[0]
    CODES: tl.constexpr = False if HOW is None else HOW[2]
    FIRST: tl.constexpr = MORE_FIELDS + n * CANDIDATE_FIELDS
    how = (emin, eman, 0, 0)
    if CANDIDATES > 1:
        how = load_more(more_at, MORE, FIRST, CANDIDATE_FIELDS)
        emax, c = float_of(how[4]), float_of(how[5])
        s = divided * (multiplier * float_of(how[6])) * float_of(how[7])
    elif HOW is not None and HOW[3] != -1:
        s = divided * (multiplier * float_of(more[8]))
    else:
        s = divided * multiplier
    encode, decode = scales(
        z, s, row, group, width, tall, ints, floats, emax, c, alpha, key, more, how, ENCODE, SCALE_RANDOM,
        CANDIDATES, CODES,
    )  # fmt: skip
    MICRO: tl.constexpr = 0 if HOW is None else HOW[8]
    half = (1.0,)
    if MICRO > 0:
        half = halvings_16(x, encode, beyond(emax), ROW, TILES, MICRO, INTERPRET)
    m = ()
    for i in tl.static_range(16):
        if MICRO > 0:
            u = magnitude(x[i], INTERPRET) * (encode * half[i])
        else:
            u = magnitude(x[i], INTERPRET) * encode
        if n > 0:
            u = u * float_of(how[8])
        m = m + (smaller(u, emax),)
    OWN: tl.constexpr = KNOWN is not None and CANDIDATES == 1
    SHARED: tl.constexpr = MORE is not None and CANDIDATES > 1
    EMIN: tl.constexpr = KNOWN[5] if OWN else MORE[FIRST] if SHARED else 0
    MAN: tl.constexpr = KNOWN[6] >> 23 if OWN else MORE[FIRST + 1] >> 23 if SHARED else 0
    MOST: tl.constexpr = KNOWN[13] if OWN else MORE[FIRST + 4] if SHARED else 1 << 30
    PLACES: tl.constexpr = 0 if HOW is None else HOW[9]
    if PLACES > 0:
        LISTS: tl.constexpr = MORE_FIELDS + CANDIDATES * CANDIDATE_FIELDS + n * (2 * PLACES * HOW[10])
        q = listed_16(m, x, load_more(more_at, MORE, LISTS, 2 * PLACES * HOW[10]), PLACES, HOW[10])
    else:
        q = rounded_16(
            m, how[0], how[1], emode, ebits, eoffset, ethreshold, index, key, RANDOM, WIDE, THRESHOLD,
            EMIN, MAN, KNOWN[7] if SHORT else -1, MOST < EMIN + (1 << 23), INTERPRET,
        )  # fmt: skip
    EXACT: tl.constexpr = False if KNOWN is None or PLACES > 0 else exact_multiples(KNOWN)
    reach, scale = alpha, decode
    if CANDIDATES > 1:
        reach = alpha * float_of(more[4]) * (emax * decode) * float_of(how[9])
        if EXACT:
            decode = decode * float_of(how[9])
    y = ()
    for i in tl.static_range(16):
        if MICRO > 0:
            v = q[i] * (decode * inverse(half[i]))
        else:
            v = q[i] * decode
        if CANDIDATES > 1 and not EXACT:
            v = v * float_of(how[9])
        if KEPT == 2:  # beyond FP32 the value stays what it is
            v = tl.where(v < float("inf"), q[i], v)
        y = y + (v,)
    if CANDIDATES > 1 and HOW[5] >= 0:
        elements = ()
        for i in tl.static_range(16):
            elements = elements + (q[i] * float_of(how[9]),)
        q = elements
    return y, reach, q, scale


@triton.jit
def picked(better, y, best):
    """16 tensors: of ``y`` where it is better, else of ``best``."""
    chosen = ()
    for i in tl.static_range(16):
        chosen = chosen + (tl.where(better, y[i], best[i]),)
    return chosen


@triton.jit
def block_values(
    x, row, group, rows, width, tall, matrix, ints, floats, level, key, more_at, peaks,
    GROUP: tl.constexpr, ROW: tl.constexpr, BLOCKS: tl.constexpr, TILES: tl.constexpr,
    ENCODE: tl.constexpr, RANDOM: tl.constexpr, WIDE: tl.constexpr, THRESHOLD: tl.constexpr,
    SCALE_RANDOM: tl.constexpr, ROW_KNOWN: tl.constexpr, HOW: tl.constexpr, TERMS: tl.constexpr, VALUE: tl.constexpr,
    MORE: tl.constexpr, KEPT: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """Decoded values without alpha, but times that of outer scales, and what is KEPT out of them [P]: 1, outer scales,
    2, the scales of blocks; 0: nothing.

    ROW_KNOWN: see ``load_ints``, MORE: see ``load_more``.

    ``rows``: of this operand, the ``matrix``-th of its member, in tiles of ``tall``. HOW: candidates, the measure of
    their errors, whether they differ in scale codes, log2 of blocks under an outer scale (-1: none, -2: all of a
    row, of tiles whose largest magnitudes are ``peaks``), sums of the statistic that TERMS and VALUE make, log2 of
    blocks whose scales are corrected together (-1: none), random bits of new scales, whether their sums are in units
    of elements, sizes of parts with micro-exponents, added up, and places and halves of lists of values; None: one way,
    from the largest magnitude, under one tensor scale or none.
    """
    kind, rotation, block, tile, emode, emin, eman, ebits, smode, smin, sman, sbits, convention = ints
    emax, ethreshold, eoffset, smax, slow, sthreshold, soffset, zero, gain, factor, c = floats
    purpose, layer, seed, step = key
    CANDIDATES: tl.constexpr = 1 if HOW is None else HOW[0]
    OUTER: tl.constexpr = -1 if HOW is None else HOW[3]
    SUMS: tl.constexpr = 0 if HOW is None else HOW[4]
    CORRECTED: tl.constexpr = -1 if HOW is None else HOW[5]
    more = (0,)
    if HOW is not None:
        more = load_more(more_at, MORE, 0, 9)
    top = merge_blocks(peak(x, INTERPRET), block, tile, GROUP, ROW, BLOCKS, TILES)
    z = float_of(top)
    if SUMS > 0:
        z = measured(z, x, row, group, rows, width, tall, block, more, GROUP, ROW, BLOCKS, TILES, SUMS, TERMS, VALUE)
    if OUTER != -1:
        if OUTER == -2:
            top = tl.load(peaks + row // tall, row < rows, 0)
        else:
            for i in tl.static_range(OUTER):
                top = merge(top, GROUP << (BLOCKS + i))
        multiplier, alpha = tensor_level(float_of(top), 1, convention & 1, convention & 4, float_of(more[0]))
    else:
        multiplier = level[0]
        alpha = spread(level[1], z)
    own_row = row + matrix * ((rows + tall - 1) // tall * tall)  # of all operands of the member, for its random bits
    index = own_row
    if RANDOM or WIDE:
        extent = tl.where(block <= width, (width + block - 1) & -block, width)  # of a row, whole blocks
        index = own_row * ((extent + 15) // 16) + group
    FINITE: tl.constexpr = True if HOW is None else False if MORE is None else MORE[9] != 0
    SHORT: tl.constexpr = False if ROW_KNOWN is None else ROW_KNOWN[24] != 0 and FINITE
    divided = z
    if CANDIDATES > 1:
        base = float_of(more[3])
        if base != 0:
            divided = tl.div_rn(z, spread(base, z))
    common = (z, divided, multiplier, alpha, own_row, group, width, tall, index)
    best, reach, elements, scale = candidate_values(
        x, common, ints, floats, key, more, more_at, 0, ENCODE, RANDOM, WIDE, THRESHOLD, SCALE_RANDOM,
        ROW_KNOWN, SHORT, HOW, MORE, ROW, TILES, KEPT, INTERPRET,
    )  # fmt: skip
    for n in tl.static_range(1, CANDIDATES):
        y, far, others, decode = candidate_values(
            x, common, ints, floats, key, more, more_at, n, ENCODE, RANDOM, WIDE, THRESHOLD, SCALE_RANDOM,
            ROW_KNOWN, SHORT, HOW, MORE, ROW, TILES, KEPT, INTERPRET,
        )  # fmt: skip
        better = closer_16(
            y, best, x, alpha * float_of(more[4]), reach + far, GROUP, ROW, BLOCKS, TILES, HOW[1], INTERPRET
        )  # fmt: skip
        reach = tl.where(better, far, reach)
        best = picked(better, y, best)
        if CORRECTED >= 0:
            elements = picked(better, others, elements)
            scale = tl.where(better, decode, scale)
    if CORRECTED >= 0:
        above, below = eden_sums_16(
            x, best, scale, alpha * float_of(more[4]), GROUP, ROW, BLOCKS, TILES, CORRECTED, HOW[7], INTERPRET
        )  # fmt: skip
        number, count = block_places(group, block, width)
        bits = tl.full((), HOW[6], tl.int32)
        edge = drawn_threshold(own_row // tall, number, count, bits, purpose | (2 << 8), layer, seed, step)
        scale = new_scale(scale, above, below, edge, slow, smax, smin, sman)
        corrected = ()
        for i in tl.static_range(16):
            corrected = corrected + (elements[i] * scale,)
        best = corrected
    out = ()
    for i in tl.static_range(16):
        v = best[i]
        if OUTER != -1 and KEPT == 0:
            v = v * alpha
        out = out + (with_sign(v, x[i], INTERPRET),)
    if KEPT == 2:
        return out, scale
    return out, alpha


@triton.jit
def bfloat16_values(x):
    """Nearest-even on the bits; NaN stays."""
    y = ()
    for i in tl.static_range(16):
        b = bits_of(x[i])
        rounded = float_of((b + 0x7FFF + ((b >> 16) & 1)) & -65536)
        y = y + (tl.where(x[i] == x[i], rounded, x[i]),)
    return y
