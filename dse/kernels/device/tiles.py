"""Tiles of an operand [R, K] in memory: 16 tensors [P] in registers, and back.

In a tile 'along' its contraction axis (K is contiguous) a thread reads runs of a row; in a tile 'across' (R is
contiguous) it reads runs of 16 different k. Either way a thread owns whole groups.
"""
# mypy: ignore-errors
# ruff: noqa: RET505, RUF005

import triton
import triton.language as tl

from dse.kernels.device.element_groups import join4, join8, split4, split8
from dse.kernels.device.lattice import float_of

UNPACK = tl.constexpr("{.reg .b32 t; shl.b32 t, $2, 16; mov.b32 $0, t; and.b32 t, $2, 0xffff0000; mov.b32 $1, t;}")
"""Two BF16 numbers as FP32: of integers the compiler would make magnitudes by instructions of their own."""


@triton.jit
def positions(first_row, first_group, ACROSS: tl.constexpr, P: tl.constexpr, INNER: tl.constexpr):
    """Row and group of each position; INNER: groups of a tile along, rows of a tile across."""
    p = tl.arange(0, P)
    if ACROSS:
        return first_row + p % INNER, first_group + p // INNER
    else:
        return first_row + p // INNER, first_group + p % INNER


@triton.jit
def widened(x, INTERPRET: tl.constexpr):
    """FP32 of FP32 or BF16 elements, of which a thread has an even number, by an instruction each."""
    if INTERPRET or x.dtype != tl.bfloat16:
        return x.to(tl.float32)
    else:
        return tl.inline_asm_elementwise(UNPACK, "=f,=f,r", [x], tl.float32, True, 2)


@triton.jit
def load_groups(
    at, row, group, R, K, stride_r, stride_k, ACROSS: tl.constexpr, RUN: tl.constexpr, FIT: tl.constexpr,
    INTERPRET: tl.constexpr,
):  # fmt: skip
    """FP32 elements, 0 beyond the operand; RUN: elements of one read along the contraction axis (4 or 8).

    FIT: 2 where all of a tile lies inside of the operand, 1 where a group does or does not as a whole, else 0.
    """
    x = ()
    inside = (row < R) & (group * 16 < K)
    if ACROSS:
        base = at + (row * stride_r + group * 16 * stride_k)
        for i in tl.static_range(16):
            if FIT == 2:
                x = x + (tl.load(base + i * stride_k).to(tl.float32),)
            else:
                ok = inside if FIT else inside & (group * 16 + i < K)
                x = x + (tl.load(base + i * stride_k, ok, 0.0).to(tl.float32),)
    else:
        lane = tl.arange(0, RUN)[None, :]
        base = (at + (row * stride_r + group * 16 * stride_k))[:, None] + lane * stride_k
        for part in tl.static_range(16 // RUN):
            if FIT == 2:
                run = widened(tl.load(base + part * RUN * stride_k), INTERPRET)
            else:
                ok = inside[:, None] if FIT else inside[:, None] & (group[:, None] * 16 + (part * RUN + lane) < K)
                run = widened(tl.load(base + part * RUN * stride_k, ok, 0.0), INTERPRET)
            if RUN == 8:
                x = x + split8(run)
            else:
                x = x + split4(run)
    return x


@triton.jit
def load_pairs(at, row, group, R, K, stride_r, stride_k, FIT: tl.constexpr, INTERPRET: tl.constexpr):
    """FP32 elements of two rows beside each other, whose BF16 numbers are one int32, in a tile across."""
    low = ()
    high = ()
    base = at + (row * stride_r + group * 16 * stride_k)
    for i in tl.static_range(16):
        if FIT == 2:
            pair = tl.load(base + i * stride_k)
        else:
            pair = tl.load(base + i * stride_k, (row < R) & (group * 16 + i < K), 0)
        if INTERPRET:
            a, b = float_of(pair << 16), float_of(pair & -65536)
        else:
            a, b = tl.inline_asm_elementwise(UNPACK, "=f,=f,r", [pair], (tl.float32, tl.float32), True, 1)
        low = low + (a,)
        high = high + (b,)
    return low, high


@triton.jit
def store_run(at, run, row, k, R, K, FIT: tl.constexpr):
    """A run [P, n] of elements k [P, n] of rows [P]."""
    if FIT == 2:
        tl.store(at, run)
    else:
        tl.store(at, run, (row < R)[:, None] & (k < K))


@triton.jit
def store_groups(
    at, y, row, group, R, K, stride_r, stride_k, ACROSS: tl.constexpr, RUN: tl.constexpr, FIT: tl.constexpr
):  # fmt: skip
    """To an output [R, K] of the pointer's type."""
    kind = at.dtype.element_ty
    inside = (row < R) & (group * 16 < K)
    base = at + (row * stride_r + group * 16 * stride_k)
    if ACROSS:
        for i in tl.static_range(16):
            if FIT == 2:
                tl.store(base + i * stride_k, y[i].to(kind))
            else:
                ok = inside if FIT else inside & (group * 16 + i < K)
                tl.store(base + i * stride_k, y[i].to(kind), ok)
    elif RUN == 16:
        lane = tl.arange(0, 16)[None, :]
        halves = tl.join(join8(y[:8]), join8(y[8:])).to(kind)
        run = tl.reshape(tl.permute(halves, (0, 2, 1)), (row.shape[0], 16))
        k = group[:, None] * 16 + (lane if FIT == 0 else lane * 0)
        store_run(base[:, None] + lane * stride_k, run, row, k, R, K, FIT)
    else:
        lane = tl.arange(0, RUN)[None, :]
        for part in tl.static_range(16 // RUN):
            if RUN == 8:
                run = join8(y[8 * part : 8 * part + 8])
            else:
                run = join4(y[4 * part], y[4 * part + 1], y[4 * part + 2], y[4 * part + 3])
            k = group[:, None] * 16 + ((part * RUN + lane) if FIT == 0 else lane * 0)
            store_run(base[:, None] + (part * RUN + lane) * stride_k, run.to(kind), row, k, R, K, FIT)
