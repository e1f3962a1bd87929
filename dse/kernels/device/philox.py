"""Philox4x32-10 on the device, with the counters and lanes of ``dse.numerics.random``."""
# mypy: ignore-errors

import triton
import triton.language as tl

M0 = tl.constexpr(0xD2511F53)
M1 = tl.constexpr(0xCD9E8D57)
W0 = tl.constexpr(0x9E3779B9)
W1 = tl.constexpr(0xBB67AE85)


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Four words of uint32 from four counter words and two key words (scalars or tensors that broadcast)."""
    c0 = c0.to(tl.uint32)
    c1 = c1.to(tl.uint32)
    c2 = c2.to(tl.uint32)
    c3 = c3.to(tl.uint32)
    k0 = k0.to(tl.uint32)
    k1 = k1.to(tl.uint32)
    for _ in tl.static_range(10):
        even = c0.to(tl.uint64) * M0  # one wide multiplication gives both halves
        odd = c2.to(tl.uint64) * M1
        c0 = (odd >> 32).to(tl.uint32) ^ c1 ^ k0
        c2 = (even >> 32).to(tl.uint32) ^ c3 ^ k1
        c1 = odd.to(tl.uint32)
        c3 = even.to(tl.uint32)
        k0 = (k0.to(tl.uint64) + W0).to(tl.uint32)
        k1 = (k1.to(tl.uint64) + W1).to(tl.uint32)
    return c0, c1, c2, c3


@triton.jit
def draw(index, purpose, layer, seed, step):
    """The words of counter ``index`` of one stream; ``seed`` and ``step`` are int64, the others int32."""
    zero = index.to(tl.uint32) * 0
    return philox(
        index, zero + purpose.to(tl.uint32), zero + layer.to(tl.uint32), zero + step.to(tl.uint32), seed, seed >> 32
    )


@triton.jit
def lane_of(n):
    """Width of a lane that holds n bits."""
    return tl.where(n <= 8, 8, tl.where(n <= 16, 16, 32))


@triton.jit
def one_draw(group, column, n, purpose, layer, seed, step):
    """n bits (1 <= n <= 32, a scalar) of element ``column`` (0-15) of group ``group``: what Key.bits gives there."""
    lane = lane_of(n)
    per_call = 128 // lane
    per_word = 32 // lane
    call = group * (lane // 8) + column // per_call
    w0, w1, w2, w3 = draw(call, purpose | (lane << 16), layer, seed, step)
    at = (column % per_call) // per_word
    word = tl.where(at < 2, tl.where(at == 0, w0, w1), tl.where(at == 2, w2, w3))
    word = word << (32 - lane * (column % per_word + 1)).to(tl.uint32)  # the lane to the top
    return (word >> (32 - n).to(tl.uint32)).to(tl.int32)
