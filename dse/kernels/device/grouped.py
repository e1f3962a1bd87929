"""a b^T with the products of a group added in FP64, rounded once, and the groups added in FP32 in their order."""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.bf16 import stored


@triton.jit
def add_toward_zero(c, p):
    """float32 c + p rounded toward zero: Knuth's TwoSum tells where the nearest number lies beyond the sum."""
    s = c + p
    back = s - c
    e = (c - (s - back)) + (p - back)
    bits = s.to(tl.int32, bitcast=True)
    finite = (tl.abs(c) < float("inf")) & (tl.abs(p) < float("inf"))
    beyond = ((e < 0) & (s > 0)) | ((e > 0) & (s < 0)) | ((tl.abs(s) == float("inf")) & finite)
    return tl.where(beyond, bits - 1, bits).to(tl.float32, bitcast=True)


@triton.jit
def on_lattice(c, n):
    """float32 multiples of 1/n, to nearest even."""
    x = c * n
    low = tl.floor(x)
    rest = x - low
    odd = tl.floor(low * 0.5) * 2 != low
    return tl.math.div_rn(tl.where((rest > 0.5) | ((rest == 0.5) & odd), low + 1, low), n)


@triton.jit
def grouped_kernel(
    a, a_e, a_m, a_k, b, b_e, b_n, b_k, out, alpha, alpha2, bias, bias_e, M, N, K, lattice, groups,
    GROUPS: tl.constexpr, SIZE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, TOWARD_ZERO: tl.constexpr,
    LATTICE: tl.constexpr, SCALES: tl.constexpr, BIAS: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """One tile [BM, BN] of one member; ``out`` [E, M, N] contiguous. GROUPS: ``groups``, in the interpreter."""
    tiles_n = tl.cdiv(N, BN)
    tile, e = tl.program_id(0), tl.program_id(1).to(tl.int64)
    m = tile // tiles_n * BM + tl.arange(0, BM)
    n = tile % tiles_n * BN + tl.arange(0, BN)
    m_ok, n_ok = m < M, n < N
    at = a + e * a_e + m.to(tl.int64) * a_m
    bt = b + e * b_e + n.to(tl.int64) * b_n
    total = tl.zeros([BM, BN], tl.float32)
    for group in range(GROUPS if INTERPRET else groups):
        p = tl.zeros([BM, BN], tl.float64)
        for i in range(SIZE):
            within = group * SIZE + i < K
            x = tl.load(at, mask=m_ok & within, other=0.0).to(tl.float32).to(tl.float64)
            y = tl.load(bt, mask=n_ok & within, other=0.0).to(tl.float32).to(tl.float64)
            p = tl.fma(tl.broadcast_to(x[:, None], [BM, BN]), tl.broadcast_to(y[None, :], [BM, BN]), p)
            at += a_k
            bt += b_k
        rounded = p.to(tl.float32)
        if TOWARD_ZERO:
            total = add_toward_zero(total, rounded)
        else:
            total = total + rounded
    if LATTICE:
        total = on_lattice(total, lattice)
    if SCALES > 0:
        scale = tl.load(alpha + e)
        if SCALES == 2:
            scale = scale * tl.load(alpha2 + e)
        total = total * scale
    if BIAS:
        total += tl.load(bias + e * bias_e + n, mask=n_ok, other=0.0)[None, :]
    o = out + (e * M + m.to(tl.int64)[:, None]) * N + n[None, :]
    tl.store(o, stored(total, out, INTERPRET), mask=m_ok[:, None] & n_ok[None, :])
