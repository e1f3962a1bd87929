"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dse.numerics.ops import FREE, Ops
from dse.optim.adam import columns, hold, resting
from dse.optim.base import Hyper, Optimizer
from dse.optim.layout import Layout


@dataclass(frozen=True)
class SGD(Optimizer):
    """m <- beta1 m + g + wd w, w <- w - lr m: stochastic gradient descent with momentum beta1.

    State: ``momentum`` [E, P]. Cost: none beyond AdamW.
    Source: torch.optim.SGD (Polyak's momentum, weight decay as an L2 penalty).
    """

    def state(self, p: Tensor, layout: Layout) -> dict[str, Tensor]:
        return {"momentum": torch.zeros_like(p)}

    def moments(self, layout: Layout) -> dict[str, tuple[str, Layout]]:
        return {"momentum": ("first", layout)}

    @torch.no_grad()
    def decay(
        self, p: Tensor, g: Tensor, hyper: Hyper, layout: Layout, active: Tensor, columns: Iterable[tuple[int, int]]
    ) -> Hyper:
        """A part of the gradient here: g <- g + wd w."""
        rate = hyper.weight_decay.to(p.dtype)
        for start, end in columns:
            g[:, start:end].add_(p[:, start:end] * rate)
        return hyper._replace(weight_decay=torch.zeros_like(hyper.weight_decay))

    @torch.no_grad()
    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], hyper: Hyper, layout: Layout, active: Tensor
    ) -> None:
        idle, everything = resting(active), (p, g, state["momentum"])
        exact = (hyper.weight_decay, torch.where(active, hyper.beta1, 1), -hyper.lr)
        decay, keep, rate = (number.to(p.dtype) for number in exact)
        for w, d, momentum in zip(*(t.split(columns(p), 1) for t in everything), strict=True):
            change = hold((w * decay).add_(d), idle)
            momentum.mul_(keep).add_(change)
            w.add_(hold(torch.mul(momentum, rate, out=change), idle))

    def ops(self) -> Ops:
        return FREE
