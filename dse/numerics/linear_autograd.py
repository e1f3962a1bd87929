"""A quantized linear product as a node of autograd: forward fprop, backward dgrad and wgrad."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dse.numerics import linear_gemms
from dse.numerics.autocast import without_autocast
from dse.numerics.linear_gemms import LinearContext, Saved
from dse.numerics.recipe import Recipe


class _QuantizedProduct(torch.autograd.Function):
    """Y = X W^T under a recipe: forward fprop; backward dgrad and wgrad, then the quantizers' own derivatives.

    All of it is computed in FP32 at least. What is kept for the backward pass is X and W as they came, BF16 perhaps.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, recipe: Recipe, context: LinearContext) -> Tensor:
        wide = torch.promote_types(torch.promote_types(x.dtype, w.dtype), torch.float32)
        with without_autocast(x):
            y, saved = linear_gemms.forward(recipe, x.to(wide), w.to(wide), context)
        ctx.recipe, ctx.watch, ctx.parts = recipe, context.watch, context.parts
        ctx.key = context.key.frozen()  # the clock moves on between forward and a later backward
        ctx.save_for_backward(x, w, *saved.copies)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (g,), (x, w, *copies), recipe, key = grads, ctx.saved_tensors, ctx.recipe, ctx.key
        saved = Saved(x.to(g.dtype), w.to(g.dtype), tuple(copies))
        dx = dw = None
        twice = torch.is_grad_enabled() and not linear_gemms.is_plain(recipe)  # create_graph=True
        with without_autocast(g), torch.set_grad_enabled(torch.is_grad_enabled() and not twice):
            if ctx.watch is not None:
                ctx.watch.copy_(linear_gemms.watched(recipe, g, key))
            if ctx.needs_input_grad[0]:
                dx = linear_gemms.input_gradient(recipe, saved, g, key, ctx.parts).to(x.dtype)
            if ctx.needs_input_grad[1]:
                dw = linear_gemms.weight_gradient(recipe, saved, g, key, ctx.parts).to(w.dtype)
        if twice:
            dx, dw = (None if d is None else _Once.apply(d, g, x, w) for d in (dx, dw))  # type: ignore[no-untyped-call]
        return dx, dw, None, None


class _Once(torch.autograd.Function):
    """A gradient d, of what comes in (g) and is saved (x, w), that has no gradient itself."""

    @staticmethod
    def forward(ctx: Any, d: Tensor, g: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return d.view_as(d)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "a quantized layer has no second derivative: its gradients are rounded; compute gradient penalties and "
            "Hessian products with the recipe 'fp32', or leave the layers they go through exempt"
        )


def linear(x: Tensor, w: Tensor, recipe: Recipe, context: LinearContext) -> Tensor:
    """X W^T under a recipe: x [..., M, K], w [..., N, K] -> [..., M, N] in FP32 at least; leading axes are independent.

    The gradients have the dtypes of x and w.
    """
    y: Tensor = _QuantizedProduct.apply(x, w, recipe, context)  # type: ignore[no-untyped-call]
    return y


__all__ = ["linear"]
