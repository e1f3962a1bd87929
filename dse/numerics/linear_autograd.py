"""A quantized product as a node of autograd: where it stands, and its three GEMMs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dse.numerics import linear as products
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe


class LinearContext(NamedTuple):
    """Where a linear is quantized: everything about a call but its operands.

    ``state``: the weight rule's tensors; ``watch``: float32 [2] that the backward pass fills for the schedule, or None.
    """

    recipe: Recipe
    key: Key
    state: dict[str, Tensor]
    watch: Tensor | None = None


class _Linear(torch.autograd.Function):
    """Y = X W^T under a recipe: forward fprop; backward dgrad and wgrad, then the quantizers' own derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, site: LinearContext) -> Tensor:
        with products.plain(x):
            y, saved = products.forward(site.recipe, x, w, site.state, site.key)
        ctx.site = site._replace(key=site.key.frozen())  # the clock moves on between forward and a later backward
        ctx.save_for_backward(saved.x, saved.w, *saved.copies)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (g,), (x, w, *copies), (recipe, key, _, watch) = grads, ctx.saved_tensors, ctx.site
        saved = products.Saved(x, w, tuple(copies))
        dx = dw = None
        twice = torch.is_grad_enabled() and not products.is_plain(recipe)  # create_graph=True
        with products.plain(g), torch.set_grad_enabled(torch.is_grad_enabled() and not twice):
            if watch is not None:
                watch.copy_(products.watched(recipe, g, key))
            if ctx.needs_input_grad[0]:
                dx = products.input_gradient(recipe, saved, g, key)
            if ctx.needs_input_grad[1]:
                dw = products.weight_gradient(recipe, saved, g, key)
        if twice:
            dx, dw = (None if d is None else _Once.apply(d, g, x, w) for d in (dx, dw))  # type: ignore[no-untyped-call]
        return dx, dw, None


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


def linear(x: Tensor, w: Tensor, site: LinearContext) -> Tensor:
    """X W^T under ``site.recipe``: x [..., M, K], w [..., N, K] -> [..., M, N]; leading axes are independent."""
    y: Tensor = _Linear.apply(x, w, site)  # type: ignore[no-untyped-call]
    return y


__all__ = ["LinearContext", "linear"]
