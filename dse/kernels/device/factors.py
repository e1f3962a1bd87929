"""Factors of a product's operands: float32 [groups, M] and [groups, N], of rows and of groups of the contraction axis.

GROUP_A, GROUP_B: elements of the contraction axis under one of them, -1: all of a row, 0: there are none.
"""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def with_group(
    total, share, factors, factors2, m, n, k, M, N, K, GROUP_A: tl.constexpr, GROUP_B: tl.constexpr
):  # fmt: skip
    """``total`` [BM, BN] plus a sum ``share`` of products from ``k`` on, times the factors of the groups that k is in.

    The first factor is applied, then the second: their product may be too small for a normal number.
    """
    if GROUP_A > 0:
        one = tl.load(factors + k // GROUP_A * M + m, mask=(m < M) & (k < K), other=0.0)
        if GROUP_B <= 0:
            return tl.fma(share, tl.broadcast_to(one[:, None], share.shape), total)
        share = share * one[:, None]
    two = tl.load(factors2 + k // GROUP_B * N + n, mask=(n < N) & (k < K), other=0.0)
    return tl.fma(share, tl.broadcast_to(two[None, :], share.shape), total)


@triton.jit
def in_row(total, factors, factors2, m, n, M, N, GROUP_A: tl.constexpr, GROUP_B: tl.constexpr):
    """``total`` times the factors of whole rows; ``m``, ``n``: in the shape of ``total``, or broadcast to it."""
    if GROUP_A == -1:
        total = total * tl.load(factors + m, mask=m < M, other=0.0)
    if GROUP_B == -1:
        total = total * tl.load(factors2 + n, mask=n < N, other=0.0)
    return total
