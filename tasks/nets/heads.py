"""Multi-head attention without its linear layers: split heads, apply rotary positions, attend, join heads.

On a GPU nothing is copied for it: fused attention reads heads where the linears wrote them, as slices of [B, T, C], and
one kernel applies rotary positions to queries and keys while it converts them to BF16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from dse.tasks.nets import fused
from dse.tasks.nets.attention import Core, kernel
from dse.tasks.nets.fused.turn import turn, turn_back
from dse.tasks.nets.members import lead
from dse.tasks.nets.rotary import rotate


def multihead(
    core: nn.Module, q: Tensor, k: Tensor, v: Tensor, heads: int, rotary: Tensor | None = None, causal: bool = False
) -> Tensor:
    """Softmax attention of ``heads`` heads over q, k, v [B, T, C] -> [B, T, C].

    ``core``: a ``Core``, or what a recipe has put in its place. ``rotary``: the table [2, T, C / heads / 2] that turns
    queries and keys. Precision: see ``attention``.
    """
    if type(core) is Core and fused.usable(q, k, v):
        out: Tensor = _Heads.apply(q, k, v, rotary, heads, causal)  # type: ignore[no-untyped-call]
        return out
    if rotary is not None and fused.usable(q, k):
        (q, k), rotary = _Turned.apply(q, k, rotary), None  # type: ignore[no-untyped-call]
    q, k, v = (y.unflatten(-1, (heads, -1)).transpose(-3, -2) for y in (q, k, v))
    if rotary is not None:
        q, k = rotate(q, rotary), rotate(k, rotary)
    y: Tensor = core(q, k, v, causal)
    return y.transpose(-3, -2).flatten(-2)


class _Heads(Function):
    """`multihead` on a GPU. Outside vmap, the backward pass computes the forward pass again."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, rotary: Tensor | None, heads: int, causal: bool) -> Tensor:
        return _alone(q, k, v, rotary, heads, causal)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *operands, ctx.heads, ctx.causal = inputs
        ctx.save_for_backward(*operands)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *operands, rotary = ctx.saved_tensors
        with torch.enable_grad():
            q, k, v = (x.detach().requires_grad_() for x in operands)
            y = _alone(q, k, v, rotary, ctx.heads, ctx.causal)
        return *torch.autograd.grad(y, (q, k, v), grads[0]), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *operands: Any) -> tuple[Tensor, int]:
        q, k, v, rotary, heads, causal = operands
        q, k, v = lead(info, in_dims, q, k, v)
        if rotary is not None:
            (rotary,) = lead(info, in_dims[3:], rotary)
        return stacked(q, k, v, rotary, heads, causal), 0  # autograd sees the parts


class _Turned(Function):
    """Queries and keys [B, T, C] with rotary positions, in their dtype, for a core that is not fused.

    By the kernel of `stacked`, so that attention without quantized products has the same bits beside members that
    quantize theirs.
    """

    @staticmethod
    def forward(q: Tensor, k: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor]:
        a, b = turn(q.unsqueeze(0), k.unsqueeze(0), rotary.unsqueeze(0), q.dtype)
        return a.squeeze(0), b.squeeze(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (rotary,) = ctx.saved_tensors
        q, k = (g.unsqueeze(0) for g in grads)
        a, b = turn_back(q, k, rotary.unsqueeze(0), q.dtype)
        return a.squeeze(0), b.squeeze(0), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], q: Tensor, k: Tensor, rotary: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        q, k, rotary = lead(info, in_dims, q, k, rotary)
        return turn(q, k, rotary, q.dtype), (0, 0)  # autograd sees the kernel itself


def _alone(q: Tensor, k: Tensor, v: Tensor, rotary: Tensor | None, heads: int, causal: bool) -> Tensor:
    table = None if rotary is None else rotary.unsqueeze(0)
    return stacked(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), table, heads, causal).squeeze(0)


def stacked(q: Tensor, k: Tensor, v: Tensor, rotary: Tensor | None, heads: int, causal: bool) -> Tensor:
    """q, k, v [E, B, T, C], rotary [E, 2, T, D / 2] -> [E, B, T, C] in the dtype of q."""
    members, dtype = q.shape[:2], q.dtype
    if rotary is not None:
        q, k = turn(q, k, rotary, torch.bfloat16)
    q, k, v = (x.flatten(0, 1).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    y = kernel(q.bfloat16(), k.bfloat16(), v.bfloat16(), causal)
    out: Tensor = y.transpose(1, 2).to(dtype).flatten(-2).unflatten(0, members)
    return out
