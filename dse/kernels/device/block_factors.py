"""From Z of blocks to the factors of their elements, for one candidate: dse.numerics.techniques.conventions' twin."""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.lattice import LARGEST, bits_of, float_of, round_scale, scale_lattice, smaller
from dse.kernels.device.philox import one_draw

BLOCK_INTS, BLOCK_FLOATS = tl.constexpr(16), tl.constexpr(16)
CANDIDATE_INTS, CANDIDATE_FLOATS = tl.constexpr(8), tl.constexpr(8)


@triton.jit
def scale_threshold(tile, block, blocks, ints, floats, purpose, layer, seed, step):
    """Where fractions of scales round up, [NR, NB]: drawn where the member's scales are stochastic.

    ``tile`` [NR, 1] or [NR, NB], ``block`` [1, NB] or [NR, NB]: the blocks' places.
    """
    fixed = tl.load(floats + 4)
    threshold = tl.full((tile.shape[0], block.shape[1]), 0.0, tl.float32) + fixed
    if tl.load(ints + 2) == 2:
        threshold = drawn_threshold(tile, block, blocks, tl.load(ints + 5), purpose | (1 << 8), layer, seed, step)
    return threshold


@triton.jit
def drawn_threshold(tile, block, blocks, bits, purpose, layer, seed, step):
    """Where the fraction of a block's scale rounds up, of ``bits`` random bits: in the shape of ``tile`` and ``block``.

    ``blocks``: of a row; ``purpose``: the point and what is drawn there.
    """
    at = tile * ((blocks + 15) // 16) + block // 16
    r = one_draw(at, block % 16 + tile * 0, bits, purpose, layer, seed, step)
    unit = float_of((127 - bits) << 23)
    return (1.0 - 0.5 * unit) - r.to(tl.float32) * unit


@triton.jit
def shifted(s, codes, emin, man, last, tiny, least):
    """The scale ``codes`` places further on its format's grid of positive numbers; zero and NaN stay.

    ``emin``, ``man``: of the format, as ``scale_lattice`` has them; ``last``, ``least``: its last code and its first;
    ``tiny``: bits of 1 / smallest where the smallest number is a normal float, 0: FP32's own codes.
    """
    shift = 23 - (man >> 23)
    first = 1 << (man >> 23)  # the code of 2^emin
    bits = bits_of(s)
    if tiny == 0:
        code = tl.minimum(tl.maximum((bits >> shift) + codes, least), last)
        moved = float_of(tl.where(code == 0, 0x00400000, code << shift))
    else:
        inverse = float_of(tiny)
        smallest = float_of(0x7F000000 - tiny)
        low = (tl.where(bits < emin, s, 0.0) * inverse).to(tl.int32)
        code = tl.where(bits < emin, low, ((bits - emin) >> shift) + first)
        code = tl.minimum(tl.maximum(code + codes, least), last)
        moved = tl.where(code < first, code.to(tl.float32) * smallest, float_of(((code - first) << shift) + emin))
    return tl.where(s > 0, moved, s)


@triton.jit
def tensor_level(g, mode, encode, divisor, target):
    """S_enc (decode) or g' (encode), and alpha; 1 without a tensor scale."""
    level = tl.full(g.shape, 1.0, tl.float32)
    alpha = level
    if mode != 0:
        if encode == 0:
            s = smaller(tl.div_rn(tl.full(g.shape, 0.0, tl.float32) + target, g), LARGEST)
            s = tl.where((g == 0) | (s == 0), 1.0, s)
            level = tl.where(g < float("inf"), s, float("nan"))
            alpha = tl.div_rn(tl.full(g.shape, 1.0, tl.float32), level)
        else:
            h = tl.where(g == 0, 1.0, tl.where(g < float("inf"), g, float("nan")))
            if divisor != 0:
                h = tl.div_rn(h, tl.full(g.shape, 0.0, tl.float32) + target)
            alpha = tl.where(h == 0, 1.0, h)
    return level, alpha


@triton.jit
def block_factors(
    z, g, threshold, ints, floats, candidate_ints, candidate_floats, CODES: tl.constexpr, GAIN: tl.constexpr = True
):  # fmt: skip
    """What elements are multiplied by, what they are decoded by, and alpha: [NR, NB] each, as ``z``, ``g`` are.

    GAIN: the first with the quantizer's gain.
    """
    encode, unquantized, mode = tl.load(ints + 6), tl.load(ints + 7), tl.load(ints + 8)
    c, inverse_c, target = tl.load(candidate_floats + 1), tl.load(candidate_floats + 2), tl.load(candidate_floats + 3)
    base, ratio = tl.load(candidate_floats + 4), tl.load(candidate_floats + 5)
    blank = tl.full(z.shape, 0.0, tl.float32)
    level, alpha = tensor_level(g, mode, encode, tl.load(ints + 9), target)
    if encode == 0:
        if base == 0:
            s = z * (level * inverse_c)
        else:
            s = tl.div_rn(z, blank + base) * level * ratio
    else:
        s = smaller(tl.div_rn(blank + c, tl.where(z == 0, 1.0, z)) * alpha, LARGEST)
    v, lattice = scale_lattice(s, tl.load(floats + 3), tl.load(floats + 2), tl.load(ints + 3), tl.load(ints + 4))
    s_q = round_scale(v, lattice, tl.load(ints + 2), tl.load(floats + 5), threshold)
    if CODES:
        last, tiny, least = tl.load(ints + 12), tl.load(ints + 13), tl.load(ints + 14)
        s_q = shifted(s_q, tl.load(candidate_ints + 2), tl.load(ints + 3), tl.load(ints + 4), last, tiny, least)
    s_q = tl.where(s_q == 0, tl.load(floats + 6), s_q)
    used = tl.where(unquantized != 0, s, s_q)
    if encode == 0:
        factor = smaller(tl.div_rn(blank + 1.0, used * alpha), LARGEST)
        decode = s_q
    else:
        factor = smaller(tl.div_rn(used, alpha), LARGEST)
        decode = tl.div_rn(blank + 1.0, s_q)
    decode = tl.where((tl.load(candidate_ints + 3) != 0) & (z == float("inf")), float("nan"), decode)
    if GAIN:
        factor = smaller(factor * tl.load(floats + 7), LARGEST)
    return factor, decode, alpha
