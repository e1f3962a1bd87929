"""Tiles of an operand [R, K] in memory: 16 tensors [P] in registers, and back.

In a tile 'along' its contraction axis (K is contiguous) a thread reads runs of a row; in a tile 'across' (R is
contiguous) it reads runs of 16 different k. Either way a thread owns whole groups.
"""
# mypy: ignore-errors
# ruff: noqa: RET505, RUF005

import triton
import triton.language as tl

from dse.kernels.device.element_groups import join4, join8, split4, split8


@triton.jit
def positions(first_row, first_group, ACROSS: tl.constexpr, P: tl.constexpr, INNER: tl.constexpr):
    """Row and group of each position; INNER: groups of a tile along, rows of a tile across."""
    p = tl.arange(0, P)
    if ACROSS:
        return first_row + p % INNER, first_group + p // INNER
    else:
        return first_row + p // INNER, first_group + p % INNER


@triton.jit
def load_groups(at, row, group, R, K, stride_r, stride_k, ACROSS: tl.constexpr, RUN: tl.constexpr):
    """FP32 elements, 0 beyond the operand; RUN: elements of one read along the contraction axis (4 or 8)."""
    x = ()
    if ACROSS:
        for i in tl.static_range(16):
            k = group * 16 + i
            x = x + (tl.load(at + row * stride_r + k * stride_k, (row < R) & (k < K), 0.0).to(tl.float32),)
    else:
        lane = tl.arange(0, RUN)[None, :]
        inside = (row < R)[:, None]
        for part in tl.static_range(16 // RUN):
            k = group[:, None] * 16 + (part * RUN + lane)
            run = tl.load(at + row[:, None] * stride_r + k * stride_k, inside & (k < K), 0.0).to(tl.float32)
            if RUN == 8:
                x = x + split8(run)
            else:
                x = x + split4(run)
    return x


@triton.jit
def store_groups(at, y, row, group, R, K, stride_r, stride_k, ACROSS: tl.constexpr, RUN: tl.constexpr):
    """To an output [R, K] of the pointer's type."""
    kind = at.dtype.element_ty
    if ACROSS:
        for i in tl.static_range(16):
            k = group * 16 + i
            tl.store(at + row * stride_r + k * stride_k, y[i].to(kind), (row < R) & (k < K))
    elif RUN == 16:
        k = group[:, None] * 16 + tl.arange(0, 16)[None, :]
        halves = tl.join(join8(y[:8]), join8(y[8:])).to(kind)
        run = tl.reshape(tl.permute(halves, (0, 2, 1)), (row.shape[0], 16))
        tl.store(at + row[:, None] * stride_r + k * stride_k, run, (row < R)[:, None] & (k < K))
    else:
        for part in tl.static_range(16 // RUN):
            k = group[:, None] * 16 + (part * RUN + tl.arange(0, RUN)[None, :])
            if RUN == 8:
                run = join8(y[8 * part : 8 * part + 8])
            else:
                run = join4(y[4 * part], y[4 * part + 1], y[4 * part + 2], y[4 * part + 3])
            tl.store(at + row[:, None] * stride_r + k * stride_k, run.to(kind), (row < R)[:, None] & (k < K))
