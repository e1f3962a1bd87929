"""Sums over rows, in an order that knows nothing of other members."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def rows_kernel(
    x, x_e, x_m, x_n, parts, rows, columns, chunks, BM: tl.constexpr, BN: tl.constexpr, DEPTH: tl.constexpr
):  # fmt: skip
    """The sum of DEPTH * BM rows of BN columns of one member."""
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    chunk, e = tl.program_id(1), tl.program_id(2).to(tl.int64)
    total = tl.zeros([BM, BN], tl.float32)
    for step in tl.static_range(DEPTH):
        m = (chunk * DEPTH + step) * BM + tl.arange(0, BM)
        ok = (m < rows)[:, None] & (n < columns)[None, :]
        at = x + e * x_e + m.to(tl.int64)[:, None] * x_m + n[None, :] * x_n
        total += tl.load(at, mask=ok, other=0.0).to(tl.float32)
    tl.store(parts + (e * chunks + chunk) * columns + n, tl.sum(total, 0), mask=n < columns)
