"""Kernels of silu(a) b and its gradient, over flat tensors."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def gate_kernel(a, b, out, n, BLOCK: tl.constexpr):
    """out = a σ(a) b."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    x = tl.load(a + at, inside, 0.0).to(tl.float32)
    y = tl.load(b + at, inside, 0.0).to(tl.float32)
    tl.store(out + at, x / (1.0 + tl.exp(-x)) * y, inside)


@triton.jit
def gate_backward_kernel(g, a, b, da, db, n, BLOCK: tl.constexpr):
    """da = g b σ(a) (1 + a (1 - σ(a))), db = g a σ(a)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    h = tl.load(g + at, inside, 0.0).to(tl.float32)
    x = tl.load(a + at, inside, 0.0).to(tl.float32)
    y = tl.load(b + at, inside, 0.0).to(tl.float32)
    sigma = 1.0 / (1.0 + tl.exp(-x))
    tl.store(da + at, h * y * (sigma * (1.0 + x * (1.0 - sigma))), inside)
    tl.store(db + at, h * (x * sigma), inside)
