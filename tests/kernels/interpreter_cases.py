"""What the faster interpreter replaces, in one kernel: reductions with functions of one's own, calls, shapes, types.

TRITON_INTERPRET=1 python [-m tests.faster_interpreter] tests/kernels/interpreter_cases.py SEED: prints the bits.
"""

from __future__ import annotations

import sys

import torch
import triton
import triton.language as tl


@triton.jit
def summed(a, b):  # type: ignore[no-untyped-def]
    return a + b


@triton.jit
def rescaled(a, b):  # type: ignore[no-untyped-def]
    """Neither associative nor commutative: the order shows in the bits."""
    return a * 0.75 + b


@triton.jit
def later(a, at, b, other):  # type: ignore[no-untyped-def]
    """The larger number and its place, of equals the later one."""
    takes = b >= a
    return tl.where(takes, b, a), tl.where(takes, other, at)


@triton.jit
def kernel(x, y, n, M: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    rows, columns = tl.arange(0, M), tl.arange(0, N)
    values = tl.load(x + rows[:, None] * N + columns[None, :])
    tl.store(y + columns, tl.reduce(values, 0, rescaled))
    tl.store(y + N + rows, tl.reduce(values, 1, rescaled))
    y += M + N
    kept = tl.reduce(values, 1, summed, keep_dims=True)
    tl.store(y + rows[:, None] + tl.zeros((M, 1), tl.int32), kept)
    tl.store(y + M, tl.reduce(tl.reshape(values, (M * N,)), 0, rescaled))
    y += M + 1
    places = tl.broadcast_to(columns[None, :], (M, N))
    most, at = tl.reduce((values, places), 1, later)
    tl.store(y + rows, most)
    tl.store(y + M + rows, at.to(tl.float32))
    y += 2 * M
    narrow = values.to(tl.bfloat16)
    tl.store(y + columns, tl.reduce(narrow.to(tl.float32), 0, summed))
    whole = (values * 1e9).to(tl.int32, bitcast=False)
    tl.store(y + N + rows, (tl.reduce(whole, 1, summed) >> 3).to(tl.float32))
    y += M + N
    three = tl.reshape(values, (M // 2, 2, N))
    tl.store(y + (tl.arange(0, M // 2)[:, None] * N + columns[None, :]), tl.reduce(three, 1, rescaled))
    y += M // 2 * N
    total = tl.cumsum(values, 1)
    for i in tl.static_range(3):
        total += tl.sqrt(tl.abs(values)) * i
    product = tl.dot(values, tl.trans(total), input_precision="ieee")
    tl.store(y + rows[:, None] * M + rows[None, :], tl.where(product > n, product, -product))


def main(seed: int) -> None:
    for m, n in ((16, 32), (32, 16), (2, 2)):
        x = torch.randn(m, n, generator=torch.Generator().manual_seed(seed))
        x[0, 0], x[1, 1], x[0, 1] = torch.nan, -0.0, torch.inf
        y = torch.zeros(5 * m + 2 * n + 1 + m // 2 * n + m * m)
        kernel[(1,)](x, y, 2, m, n)
        print(y.view(torch.int32).tolist())


if __name__ == "__main__":
    main(int(sys.argv[1]))
