"""One bit for each part of a block, which doubles the part's scale: the twin of dse.numerics.micro_exponents."""
# mypy: ignore-errors
# ruff: noqa: RUF005

import triton
import triton.language as tl

from dse.kernels.device.element_groups import merge
from dse.kernels.device.lattice import EXPONENT, MAGNITUDE, bits_of, float_of, larger, magnitude


@triton.jit
def beyond(largest):
    """2^(emax + 1) of a format whose largest value is 2^emax or more."""
    return float_of((bits_of(largest) & EXPONENT) + (1 << 23))


@triton.jit
def inverse(half):
    """1 / half of a power of two, exact."""
    return float_of((254 << 23) - bits_of(half))


@triton.constexpr_function
def levels_below(sizes, size):
    """How many sizes of ``sizes``, powers of two added up, are smaller than ``size``."""
    return bin(sizes & (size - 1)).count("1")


@triton.jit
def halvings(u, limit, SIZES: tl.constexpr):
    """2^-k of every element of a tile [NR, T, NB, B], k the number of bits that are set above it.

    ``u``: magnitudes over the blocks' scales; ``limit``: what the last level's parts do not reach without their bit;
    SIZES: of parts, powers of two from B down.
    """
    NR: tl.constexpr = u.shape[0]
    T: tl.constexpr = u.shape[1]
    NB: tl.constexpr = u.shape[2]
    B: tl.constexpr = u.shape[3]
    half = tl.full(u.shape, 1.0, tl.float32)
    for level in tl.static_range(len(SIZES)):
        columns = tl.max(bits_of(u * half) & MAGNITUDE, 1)
        parts = tl.reshape(columns, (NR, NB, B // SIZES[level], SIZES[level]))
        peak = tl.broadcast_to(tl.max(parts, 3, keep_dims=True), (NR, NB, B // SIZES[level], SIZES[level]))
        bound = limit * float_of(tl.full((), (127 + len(SIZES) - 1 - level) << 23, tl.int32))
        own = tl.where(float_of(tl.reshape(peak, (NR, 1, NB, B))) >= bound, 0.5, 1.0)
        half = half * tl.broadcast_to(own, (NR, T, NB, B))
    return half


@triton.jit
def halvings_16(
    x, encode, limit, ROW: tl.constexpr, TILES: tl.constexpr, SIZES: tl.constexpr, INTERPRET: tl.constexpr
):  # fmt: skip
    """The same of groups of 16: 16 tensors [P]; SIZES: of parts, powers of two up to 16, added up."""
    half = ()
    for _ in tl.static_range(16):
        half = half + (tl.full(encode.shape, 1.0, tl.float32),)
    for at in tl.static_range(5):
        if SIZES & (16 >> at):
            bound = limit * float_of(tl.full((), (127 + levels_below(SIZES, 16 >> at)) << 23, tl.int32))
            half = halved_16(x, encode, half, bound, 16 >> at, ROW, TILES, INTERPRET)
    return half


@triton.jit
def halved_16(
    x, encode, half, bound, SIZE: tl.constexpr, ROW: tl.constexpr, TILES: tl.constexpr, INTERPRET: tl.constexpr
):  # fmt: skip
    """``half`` once more for parts of SIZE elements that reach ``bound``."""
    halved = ()
    for part in tl.static_range(16 // SIZE):
        z = (magnitude(x[part * SIZE], INTERPRET) * encode) * half[part * SIZE]
        for i in tl.static_range(1, SIZE):
            z = larger(z, (magnitude(x[part * SIZE + i], INTERPRET) * encode) * half[part * SIZE + i])
        peak = bits_of(z) & MAGNITUDE
        for s in tl.static_range(TILES):
            peak = merge(peak, ROW << s)
        share = tl.where(float_of(peak) >= bound, 0.5, 1.0)
        for i in tl.static_range(SIZE):
            halved = halved + (half[part * SIZE + i] * share,)
    return halved
