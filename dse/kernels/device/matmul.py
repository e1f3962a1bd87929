"""a b^T of every member, with its tensor scales in the epilogue; a member's bits do not depend on its neighbors."""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.bf16 import stored
from dse.kernels.device.factors import in_row, with_group


@triton.jit
def product_kernel(
    a, a_e, a_m, a_k, b, b_e, b_n, b_k, out, o_s, o_e, o_m, o_n, alpha, alpha2, bias, bias_e,
    factors, factors_e, factors2, factors2_e, M, N, K, depth: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SCALES: tl.constexpr, BIAS: tl.constexpr,
    GROUP_A: tl.constexpr, GROUP_B: tl.constexpr, EVEN: tl.constexpr, IEEE: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """One tile [BM, BN] of one member over ``depth`` elements of the contraction axis, summed in order of BK.

    ``factors``, GROUP_A, GROUP_B: see factors.py.
    """
    tiles_n = tl.cdiv(N, BN)
    tile, part = tl.program_id(0), tl.program_id(1)
    e = tl.program_id(2).to(tl.int64)
    m = tile // tiles_n * BM + tl.arange(0, BM)
    n = tile % tiles_n * BN + tl.arange(0, BN)
    k = part * depth + tl.arange(0, BK)
    m_ok, n_ok = m < M, n < N
    at = a + e * a_e + m.to(tl.int64)[:, None] * a_m + k[None, :] * a_k
    bt = b + e * b_e + n.to(tl.int64)[None, :] * b_n + k[:, None] * b_k
    factors += e * factors_e
    factors2 += e * factors2_e
    total = tl.zeros([BM, BN], tl.float32)
    for start in range(0, depth, BK):
        if EVEN:
            x = tl.load(at, mask=m_ok[:, None], other=0.0)
            y = tl.load(bt, mask=n_ok[None, :], other=0.0)
        else:
            k_ok = (start + tl.arange(0, BK) < depth) & (k + start < K)
            x = tl.load(at, mask=m_ok[:, None] & k_ok[None, :], other=0.0)
            y = tl.load(bt, mask=n_ok[None, :] & k_ok[:, None], other=0.0)
        if INTERPRET or IEEE:  # the interpreter multiplies the bits of BF16 numbers
            x, y = x.to(tl.float32), y.to(tl.float32)
        if GROUP_A > 0 or GROUP_B > 0:
            share = tl.dot(x, y, input_precision="ieee" if IEEE else "tf32")
            total = with_group(total, share, factors, factors2, m, n, part * depth + start, M, N, K, GROUP_A, GROUP_B)
        elif IEEE:
            total = tl.dot(x, y, total, input_precision="ieee")
        else:
            total = tl.dot(x, y, total)
        at += BK * a_k
        bt += BK * b_k
    total = in_row(total, factors, factors2, m[:, None], n[None, :], M, N, GROUP_A, GROUP_B)
    if SCALES > 0:
        scale = tl.load(alpha + e)
        if SCALES == 2:
            scale = scale * tl.load(alpha2 + e)
        total = total * scale
    if BIAS:
        total += tl.load(bias + e * bias_e + n, mask=n_ok, other=0.0)[None, :]
    o = out + part.to(tl.int64) * o_s + e * o_e + m.to(tl.int64)[:, None] * o_m + n[None, :] * o_n
    tl.store(o, stored(total, out, INTERPRET), mask=m_ok[:, None] & n_ok[None, :])


@triton.jit
def sum_kernel(
    parts, out, alpha, alpha2, bias, bias_e, factors, factors_e, factors2, factors2_e, size, columns,
    PARTS: tl.constexpr, SCALES: tl.constexpr, BIAS: tl.constexpr, GROUP_A: tl.constexpr, GROUP_B: tl.constexpr,
    B: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """Adds the partial sums of a split contraction axis, in their order, then applies the factors and the bias.

    ``parts`` [PARTS, E, size], ``out`` [E, size]: M * N = ``size`` elements of each of E members.
    """
    i = tl.program_id(0) * B + tl.arange(0, B)
    ok, e = i < size, tl.program_id(1).to(tl.int64)
    at = parts + e * size + i
    total = tl.load(at, mask=ok, other=0.0)
    for _ in tl.static_range(1, PARTS):
        at += tl.num_programs(1).to(tl.int64) * size
        total += tl.load(at, mask=ok, other=0.0)
    total = in_row(
        total, factors + e * factors_e, factors2 + e * factors2_e, i // columns, i % columns, size // columns, columns,
        GROUP_A, GROUP_B,
    )  # fmt: skip
    if SCALES > 0:
        scale = tl.load(alpha + e)
        if SCALES == 2:
            scale = scale * tl.load(alpha2 + e)
        total = total * scale
    if BIAS:
        total += tl.load(bias + e * bias_e + i % columns, mask=ok, other=0.0)
    tl.store(out + e * size + i, stored(total, out, INTERPRET), mask=ok)
