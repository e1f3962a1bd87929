"""Kernel of rotary positions: rotates queries and keys in the linears' layout, and converts their type."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def _pairs(source, first, second, target, to, cos, sin, inside, HALF: tl.constexpr):
    a = tl.load(source + first, inside, 0.0).to(tl.float32)
    b = tl.load(source + second, inside, 0.0).to(tl.float32)
    tl.store(target + to, a * cos - b * sin, inside)
    tl.store(target + to + HALF, a * sin + b * cos, inside)


@triton.jit
def turn_kernel(
    q, k, x_e, x_b, x_t, x_c, table, table_e, table_i, table_t, table_c, to_q, to_k, R, T, tiles,
    N: tl.constexpr, HALF: tl.constexpr, BR: tl.constexpr, BN: tl.constexpr, BACK: tl.constexpr,
):  # fmt: skip
    """BR of the R = B·T tokens of one member: N = C/2 pairs (i, i + HALF) of their heads, turned (BACK: turned back).

    q, k [E, B, T, C], strided alike; table [E, 2, T, HALF]; to_q, to_k contiguous [E, B, T, C].
    """
    pid = tl.program_id(0)
    member = (pid // tiles).to(tl.int64)
    row = (pid % tiles * BR + tl.arange(0, BR))[:, None]
    pair = tl.arange(0, BN)[None, :]
    inside = (row < R) & (pair < N)
    token = row % T
    i = pair % HALF
    at = pair // HALF * (2 * HALF) + i
    angle = table + member * table_e + token * table_t + i * table_c
    cos = tl.load(angle, inside, 0.0)
    sin = tl.load(angle + table_i, inside, 0.0)
    if BACK:
        sin = -sin
    first = member * x_e + (row // T).to(tl.int64) * x_b + token.to(tl.int64) * x_t + at * x_c
    second = first + HALF * x_c
    to = (member * R + row) * (2 * N) + at
    _pairs(q, first, second, to_q, to, cos, sin, inside, HALF)
    _pairs(k, first, second, to_k, to, cos, sin, inside, HALF)
