"""Rounding of magnitudes to a format's grid, in FP32 arithmetic on the bits.

Twins: dse.numerics.grid, dse.numerics.techniques.rounding.

A magnitude m in [2^e, 2^(e+1)) rounds to multiples of step = 2^(e - man). Adding 2^23 step rounds to nearest-even by
itself; adding 2^14 step toward zero leaves nine fractional bits, to which random bits are added as integers.
Elements come as tuples of 16 tensors, the elements of a group, so that every group lives in one thread.
"""
# mypy: ignore-errors
# ruff: noqa: RET505, RUF005

import triton
import triton.language as tl

from dse.kernels.device.philox import draw

MAGNITUDE = tl.constexpr(0x7FFFFFFF)
EXPONENT = tl.constexpr(0x7F800000)
LARGEST = tl.constexpr(3.4028234663852886e38)


@triton.jit
def bits_of(x):
    return x.to(tl.int32, bitcast=True)


@triton.jit
def float_of(i):
    return i.to(tl.float32, bitcast=True)


@triton.jit
def larger(a, b):
    """max, NaN if one is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def smaller(a, b):
    """min, NaN if one is."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def fma_toward_zero(a, b, c, INTERPRET: tl.constexpr):
    """a b + c rounded toward zero; a b exact, not negative and not below c."""
    if INTERPRET:
        w = a * b + c
        return float_of(bits_of(w) - ((w - a * b) > c).to(tl.int32))
    else:
        return tl.inline_asm_elementwise("fma.rz.f32 $0, $1, $2, $3;", "=f,f,f,f", [a, b, c], tl.float32, True, 1)


@triton.jit
def add_toward_zero(a, b, INTERPRET: tl.constexpr):
    """a + b rounded toward zero; b = 0, or a power of two with 0 <= a < b."""
    if INTERPRET:
        w = a + b
        return float_of(bits_of(w) - ((w - b) > a).to(tl.int32))
    else:
        return tl.inline_asm_elementwise("add.rz.f32 $0, $1, $2;", "=f,f,f", [a, b], tl.float32, True, 1)


@triton.jit
def magnitude(x, INTERPRET: tl.constexpr):
    """|x|, which costs nothing where an instruction takes it as an operand."""
    if INTERPRET:
        return tl.abs(x)
    else:
        return tl.inline_asm_elementwise("abs.f32 $0, $1;", "=f,f", [x], tl.float32, True, 1)


@triton.jit
def with_sign(magnitude, x, INTERPRET: tl.constexpr):
    """A float >= 0 with the sign of x, in one instruction."""
    if INTERPRET:
        return float_of(bits_of(magnitude) | (bits_of(x) & -2147483648))
    else:
        return float_of(
            tl.inline_asm_elementwise(
                "lop3.b32 $0, $1, $2, 0x80000000, 0xF8;", "=r,r,r", [bits_of(magnitude), bits_of(x)], tl.int32, True, 1
            )
        )


@triton.jit
def nearest_even(m, emin, man):
    """``m`` within the format's range; ``emin``: bits of 2^emin; ``man``: mantissa bits << 23."""
    e = tl.maximum(bits_of(m) & EXPONENT, emin)
    lift = float_of((150 << 23) - man)
    return tl.fma(float_of(e), -lift, tl.fma(float_of(e), lift, m))  # the products are exact: m + step 2^23 - step 2^23


@triton.jit
def by_threshold(m, emin, man, offset, threshold):
    """floor(v + offset), one more where the fraction reaches the threshold: every other mode of rounding elements."""
    e = tl.maximum(bits_of(m) & EXPONENT, emin)
    v = m * float_of((254 << 23) - e + man) + offset
    q = tl.floor(v)
    q += tl.where(v - q >= threshold, 1.0, 0.0)
    return q * float_of(e - man)


@triton.jit
def scale_lattice(s, low, high, emin, man):
    """Lattice coordinate and step of a scale in any format, E8M0's 2^-127 and FP32's subnormals among them."""
    s = smaller(larger(s, low), high)
    e = tl.maximum(bits_of(s) & EXPONENT, emin)
    inverse = float_of(tl.where(e == 0x00400000, 0x7F000000, tl.maximum(0x7F000000 - e, 0x00400000)))
    up = float_of((127 << 23) + man)
    down = float_of((127 << 23) - man)
    return (s * inverse) * up, float_of(e) * down


@triton.jit
def round_scale(v, step, mode, offset, threshold):
    """``mode`` 0: nearest-even, else by threshold. A coordinate of 2^23 or more is an integer."""
    if mode == 0:
        lift = 8388608.0
        q = tl.where(v < lift, (v + lift) - lift, v)
    else:
        u = v + offset
        q = tl.floor(u)
        q += tl.where(u - q >= threshold, 1.0, 0.0)
    return q * step


@triton.jit
def nearest_even_16(m, emin, man):
    q = ()
    for i in tl.static_range(16):
        q = q + (nearest_even(m[i], emin, man),)
    return q


@triton.jit
def nearest_even_uniform_16(m, emin, man):
    """The same of a format whose values are multiples of one step: none reaches 2^(emin + 1)."""
    lift = float_of(emin) * float_of((150 << 23) - man)
    q = ()
    for i in tl.static_range(16):
        q = q + ((m[i] + lift) - lift,)
    return q


@triton.jit
def byte(word, at: tl.constexpr, INTERPRET: tl.constexpr):
    """One byte of a word as int32, in one instruction."""
    if INTERPRET:
        return ((word >> (8 * at)) & 255).to(tl.int32)
    elif at == 0:
        return tl.inline_asm_elementwise("prmt.b32 $0, $1, 0, 0x4440;", "=r,r", [word], tl.int32, True, 1)
    elif at == 1:
        return tl.inline_asm_elementwise("prmt.b32 $0, $1, 0, 0x4441;", "=r,r", [word], tl.int32, True, 1)
    elif at == 2:
        return tl.inline_asm_elementwise("prmt.b32 $0, $1, 0, 0x4442;", "=r,r", [word], tl.int32, True, 1)
    else:
        return tl.inline_asm_elementwise("prmt.b32 $0, $1, 0, 0x4443;", "=r,r", [word], tl.int32, True, 1)


@triton.jit
def byte_and_half(word, at: tl.constexpr, INTERPRET: tl.constexpr):
    """(2 r + 1) << 7 of one byte r of a word, as int32."""
    if INTERPRET:
        return (((word >> (8 * at)) & 255).to(tl.int32) << 8) | 128
    elif at == 0:
        return tl.inline_asm_elementwise("prmt.b32 $0, $1, 0x80, 0x5504;", "=r,r", [word], tl.int32, True, 1)
    elif at == 1:
        return tl.inline_asm_elementwise("prmt.b32 $0, $1, 0x80, 0x5514;", "=r,r", [word], tl.int32, True, 1)
    elif at == 2:
        return tl.inline_asm_elementwise("prmt.b32 $0, $1, 0x80, 0x5524;", "=r,r", [word], tl.int32, True, 1)
    else:
        return tl.inline_asm_elementwise("prmt.b32 $0, $1, 0x80, 0x5534;", "=r,r", [word], tl.int32, True, 1)


@triton.jit
def stochastic_known_16(
    m, EMIN: tl.constexpr, MAN: tl.constexpr, N: tl.constexpr, index, purpose, layer, seed, step,
    INTERPRET: tl.constexpr,
):  # fmt: skip
    """``stochastic_16`` for one format (EMIN: bits of 2^emin; MAN <= 6) and N <= 8; a NaN comes out as anything.

    Random bits are added to the bits of the float, below its MAN kept ones; what lies below 2^emin is lifted by 2^emin.
    """
    words = draw(index, purpose | (8 << 16), layer, seed, step)
    if N < 8:  # the bytes (2 r + 1) << (7 - n)
        KEEP: tl.constexpr = ((255 >> (8 - N)) << (8 - N)) * 0x01010101
        HALF: tl.constexpr = (1 << (7 - N)) * 0x01010101
        words = (
            (words[0] & KEEP) | HALF, (words[1] & KEEP) | HALF, (words[2] & KEEP) | HALF, (words[3] & KEEP) | HALF
        )  # fmt: skip
    least = float_of(tl.full((), EMIN, tl.int32))
    q = ()
    for i in tl.static_range(16):
        below = tl.where(m[i] < least, least, 0.0)
        t = bits_of(add_toward_zero(m[i], below, INTERPRET))
        if N < 8:
            w = t + (byte(words[i // 4], i % 4, INTERPRET) << (15 - MAN))
        else:
            w = t + (byte_and_half(words[i // 4], i % 4, INTERPRET) << (7 - MAN))
        q = q + (float_of(w & -(1 << (23 - MAN))) - below,)
    return q


@triton.jit
def stochastic_16(m, emin, man, n, index, purpose, layer, seed, step, INTERPRET: tl.constexpr):
    """n <= 8: one call serves the 16 elements.

    A magnitude with nine fractional bits, truncated, plus (2 r + 1) << (8 - n) of them, floored; the odd part is in the
    number that is added first.
    """
    words = draw(index, purpose | (8 << 16), layer, seed, step)
    keep = (((255 >> (8 - n)) << (8 - n)) * 0x01010101).to(tl.uint32, bitcast=True)
    words = (words[0] & keep, words[1] & keep, words[2] & keep, words[3] & keep)
    lift = float_of((141 << 23) - man)
    lift_half = float_of((141 << 23) - man + (1 << (8 - n)))
    q = ()
    for i in tl.static_range(16):
        e = float_of(tl.maximum(bits_of(m[i]) & EXPONENT, emin))
        random = byte(words[i // 4], i % 4, INTERPRET) * 2
        w = bits_of(fma_toward_zero(e, lift_half, m[i], INTERPRET)) + random
        q = q + (tl.fma(e, -lift, float_of(w & -512)),)
    return q


@triton.jit
def threshold_16(m, emin, man, offset, threshold):
    q = ()
    for i in tl.static_range(16):
        q = q + (by_threshold(m[i], emin, man, offset, threshold),)
    return q


@triton.jit
def stochastic_wide_16(m, emin, man, n, index, purpose, layer, seed, step):
    """n > 8: two calls (n <= 16) or four."""
    unit = float_of((127 - n) << 23)
    top = 1.0 - 0.5 * unit
    q = m
    if n <= 16:
        t = ()
        for call in tl.static_range(2):
            words = draw(index * 2 + call, purpose | (16 << 16), layer, seed, step)
            for i in tl.static_range(8):
                r = ((words[i // 2] >> (16 * (i % 2))) & 0xFFFF) >> (16 - n).to(tl.uint32)
                least = top - r.to(tl.int32).to(tl.float32) * unit
                t = t + (by_threshold(m[8 * call + i], emin, man, 0.0, least),)
        q = t
    else:
        t = ()
        for call in tl.static_range(4):
            words = draw(index * 4 + call, purpose | (32 << 16), layer, seed, step)
            for i in tl.static_range(4):
                r = words[i] >> (32 - n).to(tl.uint32)
                least = top - r.to(tl.int32).to(tl.float32) * unit
                t = t + (by_threshold(m[4 * call + i], emin, man, 0.0, least),)
        q = t
    return q


@triton.jit
def between_cuts(m, lists, FIRST: tl.constexpr, PLACES: tl.constexpr):
    """The value between whose cuts ``m`` lies, of the half whose bits start at FIRST."""
    v = tl.full(m.shape, float_of(lists[FIRST + PLACES]), tl.float32)
    for j in tl.static_range(1, PLACES):
        v = tl.where(m >= float_of(lists[FIRST + j]), float_of(lists[FIRST + PLACES + j]), v)
    return v


@triton.jit
def listed_16(m, x, lists, PLACES: tl.constexpr, HALVES: tl.constexpr):
    """Magnitudes ``m`` of elements ``x`` on a list of values: see dse.fused.block_rows.

    ``lists``: bits of the cuts and of the values upward, then (HALVES 2) downward, PLACES each.
    """
    q = ()
    for i in tl.static_range(16):
        v = between_cuts(m[i], lists, 0, PLACES)
        if HALVES > 1:
            v = tl.where(x[i] < 0, between_cuts(m[i], lists, 2 * PLACES, PLACES), v)
        q = q + (tl.where(m[i] == m[i], v, m[i]),)
    return q
