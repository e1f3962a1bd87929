"""Norms of every parameter of a flat buffer: two launches, and sums whose order knows nothing of other members."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def squares_kernel(flat, stride, starts, stops, parts, chunks, B: tl.constexpr):
    """The sum of squares of one chunk of one member."""
    chunk, e = tl.program_id(0), tl.program_id(1).to(tl.int64)
    start, stop = tl.load(starts + chunk), tl.load(stops + chunk)
    i = start + tl.arange(0, B)
    x = tl.load(flat + e * stride + i, mask=i < stop, other=0.0)
    tl.store(parts + e * chunks + chunk, tl.sum(x * x))


@triton.jit
def roots_kernel(parts, first, norms, chunks, count, B: tl.constexpr):
    """The root of the sum of one parameter's chunks."""
    parameter, e = tl.program_id(0), tl.program_id(1)
    at, end = tl.load(first + parameter), tl.load(first + parameter + 1)
    total = tl.zeros([B], tl.float32)
    while at < end:
        i = at + tl.arange(0, B)
        total += tl.load(parts + e.to(tl.int64) * chunks + i, mask=i < end, other=0.0)
        at += B
    tl.store(norms + e * count + parameter, tl.sqrt(tl.sum(total)))
