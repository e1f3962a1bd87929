"""Sums over all elements of every member: pairwise trees in FP64, in the order of dse.numerics.tree."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def tree_sum(x):
    """[B] -> a number: neighbors are added, B a power of two."""
    y = tl.reshape(x, (1, x.shape[0]))
    for _ in tl.static_range(14):
        if y.shape[1] > 1:
            y = tl.sum(tl.reshape(y, (1, y.shape[1] // 2, 2)), 2)
    return tl.sum(tl.reshape(y, (1,)), 0)


@triton.jit
def moments_kernel(g, q, alpha, parts, size, chunks, SCALED: tl.constexpr, B: tl.constexpr):
    """Of B elements of one member: the sums of G, of its squares, and of the squares of Q alpha - G in FP32."""
    chunk = tl.program_id(0) % chunks
    e = (tl.program_id(0) // chunks).to(tl.int64)
    i = chunk.to(tl.int64) * B + tl.arange(0, B)
    x = tl.load(g + e * size + i, mask=i < size, other=0.0).to(tl.float32)
    y = tl.load(q + e * size + i, mask=i < size, other=0.0).to(tl.float32)
    if SCALED:
        y = y * tl.load(alpha + e)
    noise, wide = tl.where(i < size, y - x, 0.0).to(tl.float64), x.to(tl.float64)
    out = parts + tl.program_id(0).to(tl.int64)
    step = (tl.num_programs(0)).to(tl.int64)
    tl.store(out, tree_sum(wide))
    tl.store(out + step, tree_sum(wide * wide))
    tl.store(out + 2 * step, tree_sum(noise * noise))


@triton.jit
def join_kernel(parts, out, count, chunks, B: tl.constexpr):
    """Of B sums of one row: their sum."""
    chunk = tl.program_id(0) % chunks
    row = (tl.program_id(0) // chunks).to(tl.int64)
    i = chunk * B + tl.arange(0, B)
    tl.store(out + tl.program_id(0), tree_sum(tl.load(parts + row * count + i, mask=i < count, other=0.0)))
