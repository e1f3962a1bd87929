"""Groups of 16 elements along the contraction axis: 16 tensors [P], one per element, the group's in one thread.

P is flat over a tile of positions: groups ``GROUP`` apart are neighbors along the contraction axis, and positions
``ROW`` apart neighbors along the other (one of the two is 1).
"""
# mypy: ignore-errors
# ruff: noqa: RUF005

import triton
import triton.language as tl

from dse.kernels.device.lattice import MAGNITUDE, bits_of, float_of, larger, magnitude


@triton.jit
def split4(x):
    """[P, 4] -> 4 of [P], without moving data between threads."""
    P: tl.constexpr = x.shape[0]
    even, odd = tl.split(tl.reshape(x, (P, 2, 2)))
    a, c = tl.split(even)
    b, d = tl.split(odd)
    return a, b, c, d


@triton.jit
def split8(x):
    """[P, 8] -> 8 of [P]."""
    P: tl.constexpr = x.shape[0]
    even, odd = tl.split(tl.reshape(x, (P, 4, 2)))
    a = split4(even)
    b = split4(odd)
    return a[0], b[0], a[1], b[1], a[2], b[2], a[3], b[3]


@triton.jit
def join4(a, b, c, d):
    P: tl.constexpr = a.shape[0]
    return tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (P, 4))


@triton.jit
def join8(x):
    P: tl.constexpr = x[0].shape[0]
    return tl.reshape(tl.join(join4(x[0], x[2], x[4], x[6]), join4(x[1], x[3], x[5], x[7])), (P, 8))


@triton.jit
def butterfly(x, H: tl.constexpr):
    """(a, b) -> (a + b, a - b) of elements H apart within the groups."""
    y = ()
    for i in tl.static_range(16):
        if i & H == 0:
            y = y + (x[i] + x[i | H],)
        else:
            y = y + (x[i ^ H] - x[i],)
    return y


@triton.jit
def add(a, b):
    """Plain addition: ``tl.sum`` may start from +0, which loses the sign of a sum of -0."""
    return a + b


@triton.jit
def butterfly_across(x, D: tl.constexpr):
    """The same between groups whose positions are D apart."""
    P: tl.constexpr = x[0].shape[0]
    upper = (tl.arange(0, P) // D) % 2 == 1
    y = ()
    for i in tl.static_range(16):
        plus = tl.reshape(x[i], (P // (2 * D), 2, D))
        negated = float_of(bits_of(x[i]) ^ -2147483648)  # Triton's own minus is 0 - x, which loses the sign of zero
        minus = tl.reshape(tl.where(upper, negated, x[i]), (P // (2 * D), 2, D))
        total = tl.broadcast_to(tl.reduce(plus, 1, add, keep_dims=True), (P // (2 * D), 2, D))
        difference = tl.broadcast_to(tl.reduce(minus, 1, add, keep_dims=True), (P // (2 * D), 2, D))
        y = y + (tl.where(upper, tl.reshape(difference, (P,)), tl.reshape(total, (P,))),)
    return y


@triton.jit
def flip(x, signs, group, size, STAGES: tl.constexpr, MASK: tl.constexpr):
    """X diag(S); ``signs``: 64 words of 16 bits, 1 where S is negative, for each group of a rotation, then word 0 as
    16 floats, 1 or -1, which are multiplied where no groups are joined. MASK: every word's bits, -1: not known."""
    y = ()
    if MASK >= 0:
        for i in tl.static_range(16):
            if (MASK >> i) & 1:
                y = y + (float_of(bits_of(x[i]) ^ -2147483648),)
            else:
                y = y + (x[i],)
    elif STAGES == 0:
        for i in tl.static_range(16):
            y = y + (x[i] * float_of(tl.load(signs + (64 + i))),)
    else:
        word = tl.load(signs + (group & ((size - 1) >> 4)))  # sizes are powers of two
        for i in tl.static_range(16):
            y = y + (float_of(bits_of(x[i]) ^ ((word << (31 - i)) & -2147483648)),)
    return y


@triton.jit
def butterflies(x, size, GROUP: tl.constexpr, STAGES: tl.constexpr):
    """X H; STAGES: log2 of groups joined."""
    y = butterfly(x, 1)
    if size > 2:
        y = butterfly(y, 2)
    if size > 4:
        y = butterfly(y, 4)
    if size > 8:
        y = butterfly(y, 8)
    for s in tl.static_range(STAGES):
        if size > (16 << s):
            y = butterfly_across(y, GROUP << s)
    return y


@triton.jit
def transform(x, size, factor, GROUP: tl.constexpr, STAGES: tl.constexpr):
    """X H / sqrt(size)."""
    x = butterflies(x, size, GROUP, STAGES)
    z = ()
    for i in tl.static_range(16):
        z = z + (x[i] * factor,)
    return z


@triton.jit
def rotate(x, signs, group, size, factor, GROUP: tl.constexpr, STAGES: tl.constexpr, MASK: tl.constexpr):
    """X diag(S) H / sqrt(size): see ``flip`` and ``transform``."""
    return transform(flip(x, signs, group, size, STAGES, MASK), size, factor, GROUP, STAGES)


@triton.jit
def peak(x, INTERPRET: tl.constexpr):
    """The largest magnitude of each group: bits of a float >= 0, NaN above all."""
    z = magnitude(x[0], INTERPRET)
    for i in tl.static_range(1, 16):
        z = larger(z, magnitude(x[i], INTERPRET))
    return bits_of(z) & MAGNITUDE


@triton.jit
def merge(z, D: tl.constexpr):
    """The larger of two positions D apart, at both."""
    P: tl.constexpr = z.shape[0]
    pairs = tl.reshape(z, (P // (2 * D), 2, D))
    return tl.reshape(tl.broadcast_to(tl.max(pairs, 1, keep_dims=True), (P // (2 * D), 2, D)), (P,))


@triton.jit
def merge_blocks(z, block, tile, GROUP: tl.constexpr, ROW: tl.constexpr, BLOCKS: tl.constexpr, TILES: tl.constexpr):
    """From groups' maxima to those of blocks and tiles; BLOCKS, TILES: log2 of the largest there are."""
    for s in tl.static_range(BLOCKS):
        if block > (16 << s):
            z = merge(z, GROUP << s)
    for s in tl.static_range(TILES):
        if tile > (1 << s):
            z = merge(z, ROW << s)
    return z
