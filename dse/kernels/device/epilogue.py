"""Tensor scales of a stack of products, applied in place."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def scale_kernel(
    y, y_e, n, a, a_e, b, b_e, parts, BLOCK: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr
):  # fmt: skip
    """y *= a (LEFT), b (RIGHT) or their product; y: E rows of n numbers; a, b: one number a row."""
    pid = tl.program_id(0)
    member = (pid // parts).to(tl.int64)
    factor = 1.0
    if LEFT:
        factor = tl.load(a + member * a_e)
    if RIGHT:
        factor = factor * tl.load(b + member * b_e)
    if factor != 1.0:  # a member without tensor scales in a mixed stack costs nothing
        at = (pid % parts).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < n
        where = y + member * y_e + at
        tl.store(where, tl.load(where, inside) * factor, inside)
