"""Kernel that takes a row of numbers from every row of a matrix."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def centered_kernel(
    x, x_e, x_m, x_k, row, row_e, row_k, out, rows, columns, tiles_m, tiles_k, BM: tl.constexpr, BK: tl.constexpr
):  # fmt: skip
    """BM x BK elements of x [E, M, K] minus row [E, 1, K], in FP32, into out [E, M, K], contiguous."""
    program = tl.program_id(0)
    e = (program // (tiles_m * tiles_k)).to(tl.int64)
    m = (program // tiles_k % tiles_m * BM + tl.arange(0, BM)).to(tl.int64)[:, None]
    k = (program % tiles_k * BK + tl.arange(0, BK))[None, :]
    ok = (m < rows) & (k < columns)
    a = tl.load(x + e * x_e + m * x_m + k * x_k, ok, 0.0).to(tl.float32)
    b = tl.load(row + e * row_e + k * row_k, k < columns, 0.0)
    tl.store(out + (e * rows + m) * columns + k, a - b, ok)
