"""Softmax of scaled, masked scores in one pass, and its derivative; a row's bits do not depend on other rows."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def row_tile(rows, columns, BR: tl.constexpr, BC: tl.constexpr, CAUSAL: tl.constexpr):
    """Addresses of a tile of whole rows, what of it lies inside, and what of that a row sees."""
    blocks = tl.cdiv(rows, BR)
    pid = tl.program_id(0)
    matrix = (pid // blocks).to(tl.int64)
    r = (pid % blocks) * BR + tl.arange(0, BR)
    c = tl.arange(0, BC)
    inside = (r < rows)[:, None] & (c < columns)[None, :]
    seen = inside
    if CAUSAL:
        seen = inside & (c[None, :] <= r[:, None])
    return (matrix * rows + r)[:, None] * columns + c[None, :], inside, seen


@triton.jit
def softmax_kernel(
    scores, weights, rows, columns, factor, BR: tl.constexpr, BC: tl.constexpr, CAUSAL: tl.constexpr
):  # fmt: skip
    """softmax(factor scores) of every row of scores [..., rows, columns]; CAUSAL: row i sees columns up to i."""
    at, inside, seen = row_tile(rows, columns, BR, BC, CAUSAL)
    z = tl.load(scores + at, seen, float("-inf")) * factor
    z = tl.exp(z - tl.max(z, 1)[:, None])
    tl.store(weights + at, z / tl.sum(z, 1)[:, None], inside)


@triton.jit
def softmax_backward_kernel(
    weights, grad, out, rows, columns, factor, BR: tl.constexpr, BC: tl.constexpr, CAUSAL: tl.constexpr
):  # fmt: skip
    """The gradient of the scores, from that of the weights."""
    at, inside, seen = row_tile(rows, columns, BR, BC, CAUSAL)
    p = tl.load(weights + at, seen, 0.0)
    g = tl.load(grad + at, seen, 0.0)
    tl.store(out + at, p * (g - tl.sum(p * g, 1)[:, None]) * factor, inside)
