"""Rotary positions applied without splitting heads: queries and keys stay [..., T, C], as their linears wrote them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_TILE = 1024
"""Pairs of a tile."""


def turn(q: Tensor, k: Tensor, table: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """q, k [E, B, T, C] -> the same in ``dtype``, contiguous, every head of size D = 2 · HALF turned.

    ``table`` [E, 2, >= T, HALF]: cos and sin; it gets no gradient. A member's tokens share it.
    """
    a, b = _Turn.apply(q, k, table, dtype)  # type: ignore[no-untyped-call]
    return a, b


def turn_back(q: Tensor, k: Tensor, table: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The inverse of ``turn``, without a gradient: it takes the gradients of turned queries and keys to theirs."""
    return _run(q, k, table, dtype, back=True)


class _Turn(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, table: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(table)
        ctx.dtype = q.dtype
        return _run(q, k, table, dtype, back=False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (table,) = ctx.saved_tensors
        return *_run(grads[0], grads[1], table, ctx.dtype, back=True), None, None


def _run(q: Tensor, k: Tensor, table: Tensor, dtype: torch.dtype, back: bool) -> tuple[Tensor, Tensor]:
    from dse.tasks.nets.fused.device import turn as device

    if q.stride() != k.stride():
        q, k = q.contiguous(), k.contiguous()
    e, b, t, c = q.shape
    to_q = torch.empty(q.shape, dtype=dtype, device=q.device)
    to_k = torch.empty_like(to_q)
    width = 1 << (c // 2 - 1).bit_length()
    height = max(_TILE // width, 1)
    tiles = -(-b * t // height)
    if q.numel():
        device.turn_kernel[(e * tiles,)](
            q, k, *q.stride(), table, *table.stride(), to_q, to_k, b * t, t, tiles,
            N=c // 2, HALF=table.shape[-1], BR=height, BN=width, BACK=back, num_warps=4,
        )  # fmt: skip
    return to_q, to_k
