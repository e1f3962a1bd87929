"""Softmax attention with a custom vmap rule, which folds the members of a pack into the batch.

`F.scaled_dot_product_attention` has no batching rule: under vmap it loops on the CPU, and its backward fails on CUDA.
Here a GPU runs it on all members at once, with BF16 operands. A CPU forms the two products, member by member, because
one batched call for all can give a member other bits in a wide pack.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.attention import SDPBackend, sdpa_kernel

from dse.kernels.alignment import product, products
from dse.tasks.nets.masters import wide
from dse.tasks.nets.members import lead

_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Without cuDNN, which plans anew for every shape."""
MOST = (1 << 16) - 1
"""Heads, over all samples and members, that one fused kernel takes: blocks on the second and third axis of a CUDA
grid. More fail with 'invalid argument'."""


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, mask: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √D) v over q, k, v [B, H, T, D]; with `causal`, token i sees the tokens up to itself.

    On a GPU operands are rounded to BF16, products are summed in FP32, and the result has the dtype of q; but with a
    `mask` [B, H, T, T], which multiplies the weights (dropout), and on a CPU everything is FP32 inside.
    """
    if q.device.type == "cpu" or mask is not None:
        with torch.autocast(q.device.type, enabled=False):
            y: Tensor = _Products.apply(wide(q), wide(k), wide(v), causal, mask)[0].to(q.dtype)  # type: ignore[no-untyped-call]
    else:
        y = _Fused.apply(q, k, v, causal)  # type: ignore[no-untyped-call]
    return y


class Core(nn.Module):
    """`attention` as a module, in which a recipe's numerics can take its place (`attends` says so to `quantize_`)."""

    attends = True

    def forward(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False, mask: Tensor | None = None) -> Tensor:
        return attention(q, k, v, causal, mask)


class _Products(Function):
    """The explicit form over [B, H, T, D], or [E, B, H, T, D]: P = softmax(q kᵀ / √D) is kept for the backward pass."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        scores = _product(q, k.mT).mul_(1 / math.sqrt(q.shape[-1]))
        if causal:
            tokens = scores.shape[-1]
            scores.masked_fill_(torch.ones(tokens, tokens, dtype=torch.bool, device=q.device).triu(1), -math.inf)
        p = scores.softmax(-1)
        return _product(p if mask is None else p * mask, v), p

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        mask = inputs[4]
        ctx.save_for_backward(*inputs[:3], output[1], *([] if mask is None else [mask]))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (q, k, v, p, *mask), g = ctx.saved_tensors, grads[0]
        ds = _product(g, v.mT)
        if mask:
            ds.mul_(mask[0])
        ds.sub_((ds * p).sum(-1, keepdim=True)).mul_(p).mul_(1 / math.sqrt(q.shape[-1]))
        seen = p * mask[0] if mask else p
        return _product(ds, k), _product(ds.mT, q), _product(seen.mT, g), None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None
    ) -> Any:
        q, k, v = lead(info, in_dims, q, k, v)
        if mask is not None:
            (mask,) = lead(info, in_dims[4:], mask)
        return _Products.apply(q, k, v, causal, mask), (0, 0)  # type: ignore[no-untyped-call]


class _Fused(Function):
    """One kernel over [B, H, T, D]. Outside vmap, the backward pass computes the forward pass again."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        return _kernel(q, k, v, causal)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *operands, ctx.causal = inputs
        ctx.save_for_backward(*operands)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            q, k, v = (x.detach().requires_grad_() for x in ctx.saved_tensors)
            y = _kernel(q, k, v, ctx.causal)
        return *torch.autograd.grad(y, (q, k, v), grads[0]), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Any:
        q, k, v = lead(info, in_dims, q, k, v)
        y = _kernel(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), causal)  # autograd sees the kernel itself
        return y.unflatten(0, q.shape[:2]), 0


def _kernel(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    return kernel(q.bfloat16(), k.bfloat16(), v.bfloat16(), causal).to(q.dtype)


def kernel(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Fused attention of heads [B, H, T, D] in BF16, of any strides but the last.

    More than MOST heads are computed in parts of like size: a small last part would be computed in another way (shared
    out along the tokens, for want of blocks), and with other bits.
    """
    parts = min(len(q), -(-len(q) * q.shape[1] // MOST))
    with sdpa_kernel(_FUSED):
        if parts <= 1:
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        qs, ks, vs = (x.tensor_split(parts) for x in (q, k, v))
        pieces = zip(qs, ks, vs, strict=True)
        return torch.cat([F.scaled_dot_product_attention(a, b, c, is_causal=causal) for a, b, c in pieces])


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a [(E,) B, H, M, K] times b [(E,) B, H, K, N], one call a member, the same as alone (`dse.kernels.alignment`)."""
    left, right = a.flatten(-4, -3), b.flatten(-4, -3)
    y = products(left, right) if a.dim() == 5 else product(left, right)
    return y.view(*a.shape[:-1], b.shape[-1])
