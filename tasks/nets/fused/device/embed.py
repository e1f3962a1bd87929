"""Kernel of an embedding's gradient: each row sums the gradients of its tokens, in their order."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def embed_backward_kernel(
    g, g_e, g_n, g_c, tokens, tokens_e, out, N: tl.constexpr, V, C,
    BV: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """out [E, V, C] = onehot(tokens [E, N])ᵀ g [E, N, C]; steps without one of the program's rows are skipped."""
    v = tl.program_id(0) * BV + tl.arange(0, BV)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    e = tl.program_id(2).to(tl.int64)
    total = tl.zeros([BV, BC], tl.float32)
    for start in range(0, N, BT):
        n = start + tl.arange(0, BT)
        token = tl.load(tokens + e * tokens_e + n, n < N, -1)
        hit = v[:, None] == token[None, :]
        if tl.max(tl.max(hit.to(tl.int32), 1), 0) > 0:
            at = g + e * g_e + n.to(tl.int64)[:, None] * g_n + c[None, :] * g_c
            x = tl.load(at, (n < N)[:, None] & (c < C)[None, :], 0.0).to(tl.float32)
            total = tl.dot(hit.to(tl.float32), x, total, input_precision="ieee")
    at = out + (e * V + v.to(tl.int64)[:, None]) * C + c[None, :]
    tl.store(at, total, (v < V)[:, None] & (c < C)[None, :])
