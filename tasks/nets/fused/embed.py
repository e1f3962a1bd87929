"""Embedding lookup, with a deterministic gradient: each row sums the gradients of its tokens in their order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dse.tasks.nets.members import lead

_ROWS, _TOKENS, _COLUMNS = 32, 32, 64
"""Of a program: rows of the table, columns, and the tokens of one step."""


def embed(table: Tensor, tokens: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """table [V, C], tokens [...] int64 -> [..., C] in `dtype`, by default the table's."""
    y: Tensor = _Embed.apply(table, tokens, dtype or table.dtype)  # type: ignore[no-untyped-call]
    return y


class _Embed(Function):
    """One table, or a stack: table [E, V, C], tokens [E, ...]."""

    @staticmethod
    def forward(table: Tensor, tokens: Tensor, dtype: torch.dtype) -> Tensor:
        rows, at = _stack(table, tokens)
        first = torch.arange(len(rows), device=at.device).unsqueeze(-1) * rows.shape[1]
        found = rows.flatten(0, 1).index_select(0, (at + first).flatten())
        return found.to(dtype).view(*tokens.shape, table.shape[-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        table, tokens, _ = inputs
        ctx.shape, ctx.dtype = table.shape, table.dtype
        ctx.save_for_backward(tokens)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        from dse.tasks.nets.fused.device import embed as device

        (tokens,) = ctx.saved_tensors
        out = torch.empty(ctx.shape, dtype=torch.float32, device=tokens.device)
        rows, at = _stack(out, tokens)
        (members, height, width), count = rows.shape, at.shape[1]
        g = grads[0].reshape(members, count, width)
        grid = (-(-height // _ROWS), -(-width // _COLUMNS), members)
        device.embed_backward_kernel[grid](
            g, *g.stride(), at, at.stride(0), out, count, height, width, BV=_ROWS, BT=_TOKENS, BC=_COLUMNS, num_warps=4
        )
        return out.to(ctx.dtype), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], table: Tensor, tokens: Tensor, dtype: torch.dtype) -> Any:
        return _Embed.apply(*lead(info, in_dims, table, tokens), dtype), 0  # type: ignore[no-untyped-call]


def _stack(table: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The table as [E, V, C] and the tokens as [E, N], contiguous."""
    rows = table if table.dim() == 3 else table.unsqueeze(0)
    return rows, tokens.reshape(len(rows), -1).contiguous()
