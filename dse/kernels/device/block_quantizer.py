"""A member's quantizer on groups of 16: the twin of dse.numerics.block and dse.numerics.techniques.conventions."""
# mypy: ignore-errors
# ruff: noqa: RUF005, RUF059, SIM102

import triton
import triton.language as tl

from dse.kernels.device.element_groups import merge_blocks, peak
from dse.kernels.device.lattice import (
    LARGEST,
    bits_of,
    float_of,
    magnitude,
    nearest_even_16,
    round_scale,
    scale_lattice,
    smaller,
    stochastic_16,
    stochastic_known_16,
    stochastic_wide_16,
    threshold_16,
    with_sign,
)
from dse.kernels.device.philox import one_draw

INTS = tl.constexpr(16)
FLOATS = tl.constexpr(16)


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
def scales(z, row, group, width, tall, ints, floats, level, key, ENCODE: tl.constexpr, SCALE_RANDOM: tl.constexpr):
    """Encode and decode factors of each position from the maxima of its block."""
    kind, rotation, block, tile, emode, emin, eman, ebits, smode, smin, sman, sbits, convention = ints
    emax, ethreshold, eoffset, smax, slow, sthreshold, soffset, zero, gain, factor, c = floats
    multiplier, alpha = level
    purpose, layer, seed, step = key
    encodes = convention & 1
    unquantized = convention & 2
    s = z * multiplier
    if ENCODE:
        if encodes != 0:
            s = smaller(tl.div_rn(spread(c, z), tl.where(z == 0, 1.0, z)) * alpha, LARGEST)
    v, lattice = scale_lattice(s, slow, smax, smin, sman)
    if SCALE_RANDOM:
        threshold = spread(sthreshold, v)
        if smode == 2:
            extent = tl.minimum(block, width)
            number = group * 16 // extent
            groups = ((width + extent - 1) // extent + 15) // 16
            at = (row // tall) * groups + number // 16
            r = one_draw(at, number % 16, sbits, purpose | (1 << 8), layer, seed, step)
            unit = float_of((127 - sbits) << 23)
            threshold = (1.0 - 0.5 * unit) - r.to(tl.float32) * unit
        s_q = round_scale(v, lattice, smode, soffset, threshold)
    else:
        s_q = round_scale(v, lattice, smode, soffset, sthreshold)
    s_q = tl.where(s_q == 0, zero, s_q)
    used = tl.where(unquantized != 0, s, s_q)
    decode = s_q
    if ENCODE:
        if encodes != 0:
            encode = tl.div_rn(used, spread(alpha, used))
            decode = tl.div_rn(spread(1.0, s_q), s_q)
        else:
            encode = tl.div_rn(spread(1.0, used), used * alpha)
    else:
        encode = tl.div_rn(spread(1.0, used), used * alpha)
    hidden = (z == float("inf")) & (emax * decode < float("inf"))  # an infinity that would come out finite
    decode = tl.where(hidden, float("nan"), decode)
    return smaller(smaller(encode, LARGEST) * gain, LARGEST), decode


@triton.jit
def block_values(
    x, row, group, width, tall, ints, floats, level, key,
    GROUP: tl.constexpr, ROW: tl.constexpr, BLOCKS: tl.constexpr, TILES: tl.constexpr,
    ENCODE: tl.constexpr, RANDOM: tl.constexpr, WIDE: tl.constexpr, THRESHOLD: tl.constexpr,
    SCALE_RANDOM: tl.constexpr, ROW_KNOWN: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """Decoded values without alpha; ROW_KNOWN: see ``load_ints``.

    ``row``: counted over all operands of the member, for its random bits; ``tall``: rows of a tile of this operand.
    """
    kind, rotation, block, tile, emode, emin, eman, ebits, smode, smin, sman, sbits, convention = ints
    emax, ethreshold, eoffset, smax, slow, sthreshold, soffset, zero, gain, factor, c = floats
    purpose, layer, seed, step = key
    z = float_of(merge_blocks(peak(x, INTERPRET), block, tile, GROUP, ROW, BLOCKS, TILES))
    encode, decode = scales(z, row, group, width, tall, ints, floats, level, key, ENCODE, SCALE_RANDOM)
    m = ()
    for i in tl.static_range(16):
        m = m + (smaller(magnitude(x[i], INTERPRET) * encode, emax),)
    if RANDOM or WIDE:
        extent = tl.where(block <= width, (width + block - 1) & -block, width)  # of a row, whole blocks
        index = row * ((extent + 15) // 16) + group
    q = m
    KNOWN: tl.constexpr = False if ROW_KNOWN is None else ROW_KNOWN[24] != 0
    if RANDOM and KNOWN:
        q = stochastic_known_16(
            m, ROW_KNOWN[5], ROW_KNOWN[6] >> 23, ROW_KNOWN[7], index, purpose, layer, seed, step, INTERPRET
        )
    elif RANDOM:
        if emode == 1:
            q = stochastic_16(m, emin, eman, ebits, index, purpose, layer, seed, step, INTERPRET)
    if WIDE:
        if emode == 3:
            q = stochastic_wide_16(m, emin, eman, ebits, index, purpose, layer, seed, step)
    if THRESHOLD:
        if emode == 2:
            q = threshold_16(m, emin, eman, eoffset, ethreshold)
    if emode == 0:
        q = nearest_even_16(m, emin, eman)
    y = ()
    for i in tl.static_range(16):
        y = y + (with_sign(q[i] * decode, x[i], INTERPRET),)
    return y


@triton.jit
def bfloat16_values(x):
    """Nearest-even on the bits; NaN stays."""
    y = ()
    for i in tl.static_range(16):
        b = bits_of(x[i])
        rounded = float_of((b + 0x7FFF + ((b >> 16) & 1)) & -65536)
        y = y + (tl.where(x[i] == x[i], rounded, x[i]),)
    return y
