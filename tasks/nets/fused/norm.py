"""RMSNorm (arXiv 1910.07467) and LayerNorm (1607.06450) in one pass forward and one backward, also of a sum of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dse.tasks.nets.members import lead

WIDEST = 4096
"""Columns that a program can hold."""
MOST_USES = 3
"""Gradients of a result that the kernel sums."""
_TILE, _LOOP = 2048, 4
"""Elements of a tile; tiles of a program of the backward pass, which leaves one partial dw for all of them."""


@dataclass(frozen=True)
class Norming:
    """How to normalize: `center`: x less its mean (LayerNorm); `uses`: as many equal results, for as many readers.

    The gradients of all uses, MOST_USES at most, are summed in FP32 by the kernel that goes back, the last one first,
    as autograd would.
    """

    eps: float
    center: bool = False
    uses: int = 1


def rms_norm(x: Tensor, weight: Tensor | None, eps: float, center: bool = False) -> Tensor:
    """x / sqrt(mean x² + eps) times weight [C], over x [..., C]; `center`: of x less its mean."""
    return norms(x, weight, Norming(eps, center))[0]


def add_norm(x: Tensor, y: Tensor, weight: Tensor | None, eps: float, center: bool = False) -> tuple[Tensor, Tensor]:
    """x + y and its `rms_norm`; x, y [..., C] of one shape. Their gradients are summed on the way back."""
    total, (z,) = add_norms(x, y, weight, Norming(eps, center))
    return total, z


def norms(x: Tensor, weight: Tensor | None, how: Norming) -> tuple[Tensor, ...]:
    """The norm of x, as often as it is used."""
    z: tuple[Tensor, ...] = _Norm.apply(x, weight, how)  # type: ignore[no-untyped-call]
    return z


def add_norms(x: Tensor, y: Tensor, weight: Tensor | None, how: Norming) -> tuple[Tensor, tuple[Tensor, ...]]:
    """x + y, and its norm as often as it is used."""
    total, *z = _AddNorm.apply(x, y, weight, how)  # type: ignore[no-untyped-call]
    return total, tuple(z)


class _Norm(Function):
    """x [..., C] with weight [C] or None; or a stack, x [E, ..., C] with weight [E, C]."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor | None, how: Norming) -> tuple[Tensor, ...]:
        return _used(_forward(x, None, weight, how)[1], how.uses)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, ctx.how = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (x, weight), present = ctx.saved_tensors, [g for g in grads if g is not None]
        return (*_backward(present, None, x, weight, ctx.how), None) if present else (None, None, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor | None, how: Norming) -> Any:
        (x,) = lead(info, in_dims[:1], x)
        if weight is not None:
            (weight,) = lead(info, in_dims[1:2], weight)
        return norms(x, weight, how), (0,) * how.uses


class _AddNorm(Function):
    """The same of x + y: (x + y, its norm, ...)."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, weight: Tensor | None, how: Norming) -> tuple[Tensor, ...]:
        total, z = _forward(x, y, weight, how)
        return total, *_used(z, how.uses)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, _, weight, ctx.how = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[0], weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (total, weight), (also, *found) = ctx.saved_tensors, grads
        present = [g for g in found if g is not None]
        if not present:  # the norm is not used
            return also, also, None, None
        dx, dw = _backward(present, also, total, weight, ctx.how)
        return dx, dx, dw, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, y: Tensor, weight: Tensor | None, how: Norming
    ) -> Any:
        x, y = lead(info, in_dims[:2], x, y)
        if weight is not None:
            (weight,) = lead(info, in_dims[2:3], weight)
        total, z = add_norms(x, y, weight, how)
        return (total, *z), (0,) * (1 + how.uses)


def _used(z: Tensor, uses: int) -> tuple[Tensor, ...]:
    """A tensor for each use, all in one memory."""
    return z, *(z.detach() for _ in range(1, uses))


def _forward(x: Tensor, y: Tensor | None, weight: Tensor | None, how: Norming) -> tuple[Tensor, Tensor]:
    from dse.tasks.nets.fused.device import norm as device

    rows, w = _stack(x, weight)
    e, r, c = rows.shape
    other = rows if y is None else _stack(y, weight)[0]
    dtype = x.dtype if y is None else torch.promote_types(x.dtype, y.dtype)
    out = torch.empty(e, r, c, dtype=dtype, device=x.device)
    total = out if y is None else torch.empty_like(out)
    height, width = _tile(c)
    tiles = -(-r // height)
    if out.numel():
        device.norm_kernel[(e * tiles,)](
            rows, *rows.stride(), other, *other.stride(), total, w, *w.stride(), out, r, c, how.eps, tiles,
            BR=height, BC=width, ADD=y is not None, WEIGHT=weight is not None, CENTER=how.center,
            num_warps=max(height * width // 512, 4),
        )  # fmt: skip
    return total.view(x.shape), out.view(x.shape)


def _backward(
    grads: list[Tensor], also: Tensor | None, x: Tensor, weight: Tensor | None, how: Norming
) -> tuple[Tensor, Tensor | None]:
    from dse.tasks.nets.fused.device import norm as device

    rows, w = _stack(x, weight)
    parts = [_stack(g, weight)[0] for g in reversed(grads)]
    if len({part.stride() for part in parts}) > 1:
        parts = [part.contiguous() for part in parts]
    other = parts[0] if also is None else _stack(also, weight)[0]
    e, r, c = rows.shape
    dx = torch.empty(e, r, c, dtype=x.dtype, device=x.device)
    height, width = _tile(c)
    chunks = -(-r // (height * _LOOP))
    partial = torch.empty((e, chunks, c) if weight is not None else (0,), dtype=torch.float32, device=x.device)
    if dx.numel():
        device.norm_backward_kernel[(e * chunks,)](
            *(*parts, *parts[:1] * 2)[:MOST_USES], *parts[0].stride(), other, *other.stride(), rows, *rows.stride(),
            w, *w.stride(), dx, partial, r, c, how.eps, chunks, USES=len(parts), LOOP=_LOOP, BR=height, BC=width,
            ADD=also is not None, WEIGHT=weight is not None, CENTER=how.center,
            num_warps=max(height * width // 512, 4),
        )  # fmt: skip
    dw = None if weight is None else partial.sum(1).to(weight.dtype).view(weight.shape)
    return dx.view(x.shape), dw


def _stack(x: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """x as [E, rows, C] and the weight as [E, C] (anything of two axes where there is none)."""
    members = weight.shape[0] if weight is not None and weight.dim() == 2 else 1
    rows = x.reshape(members, x.numel() // max(members * x.shape[-1], 1), x.shape[-1])
    return rows, rows[0] if weight is None else weight.view(members, -1)


def _tile(columns: int) -> tuple[int, int]:
    """Rows and columns of a tile."""
    width = max(1 << (columns - 1).bit_length(), 16)
    return max(_TILE // width, 1), width
