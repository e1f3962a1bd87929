"""Means over a batch, the same bits for a member of any pack.

Torch divides a sum over a stack [E, ...] among a GPU's threads by the size of the whole stack, so that the last bit of
a member's mean depends on how many others there are. Here a GPU adds the numbers of a mean as a tree, neighbors first
(``dse.kernels.tree``). A CPU keeps torch's own forms, which take the members of a stack one by one.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from dse.kernels.availability import takes
from dse.kernels.tree import fold
from dse.tasks.nets.members import lead

_NOTHING = -(1 << 40)
"""No label: which ones are left out."""


def mean(x: Tensor, keep: int = 0) -> Tensor:
    """The means of x over all axes but the first ``keep``, in x's dtype."""
    if not takes(x):
        return x.mean(tuple(range(keep, x.dim()))) if keep else x.mean()
    y: Tensor = _Mean.apply(x, keep)  # type: ignore[no-untyped-call]
    return y


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy [] in nats of scores [B, classes] for labels int64 [B].

    Every label counts: torch's -100 for items to leave out is an error here, as is any other that is no class
    (IndexError or RuntimeError on a CPU, a failed assertion on a GPU).
    """
    if takes(scores):
        return mean(F.cross_entropy(scores, labels, reduction="none", ignore_index=_NOTHING))
    return F.cross_entropy(scores, labels, ignore_index=_NOTHING)


def mse(x: Tensor, target: Tensor) -> Tensor:
    """The mean squared error [] of x for a target of its shape."""
    return mean((x - target).square()) if takes(x) else F.mse_loss(x, target)


class _Mean(Function):
    """``mean`` on a GPU; under ``torch.func.vmap`` a stack has one more axis that stays."""

    @staticmethod
    def forward(x: Tensor, keep: int) -> Tensor:
        return _means(x, keep)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        x, ctx.keep = inputs
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        over = ctx.shape[ctx.keep :]
        each = grads[0] / over.numel()
        return each.view(*each.shape, *[1] * len(over)).expand(ctx.shape), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, keep: int) -> tuple[Tensor, int]:
        return _Mean.apply(*lead(info, in_dims, x), keep + 1), 0  # type: ignore[no-untyped-call]


def _means(x: Tensor, keep: int) -> Tensor:
    kept, over = x.shape[:keep], x.shape[keep:]
    total = fold(x.reshape(kept.numel(), over.numel(), 1).contiguous())
    return (total.view(kept) / over.numel()).to(x.dtype)


__all__ = ["cross_entropy", "mean", "mse"]
