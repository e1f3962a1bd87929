"""Adam's step on stacked parameters, shared by AdamW and Stable-SPAM."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from dse.kernels.availability import lies_on_gpu
from dse.kernels.sqrt import sqrt
from dse.optim.base import Hyper


def adam(p: Tensor, g: Tensor, m: Tensor, v: Tensor, powers: Tensor, hyper: Hyper, active: Tensor, eps: float) -> None:
    """m <- m + (1 - b1)(g - m), v <- b2 v + (1 - b2) g^2, p <- (1 - lr wd) p - lr m_hat / (sqrt(v_hat) + eps).

    p, g, m, v [E, P]; ``powers`` float64 [E, 2] are b1^t and b2^t at this step, of m_hat = m / (1 - b1^t) and v_hat;
    ``active`` bool [E, 1]. Formulas and order of operations are torch.optim.AdamW's, each rounded by itself.
    """
    lr, beta1, beta2, decay = hyper[:4]
    scale1, scale2 = (1 - powers).split(1, 1)
    keep2, keep = torch.where(active, beta2, 1), torch.where(active, 1 - lr * decay, 1)
    exact = (1 - beta1, keep2, 1 - beta2, sqrt(scale2), -lr / scale1, keep)
    take1, keep2, take2, root, rate, keep = numbers = [number.to(p.dtype) for number in exact]
    if fusible(p, g, m, v):
        from dse.optim import adam_kernel

        adam_kernel.step(p, g, m, v, torch.cat(numbers, 1), active, eps)
        return

    idle = resting(active)
    for w, d, first, second in zip(*(t.split(columns(p), 1) for t in (p, g, m, v)), strict=True):
        change = hold((d - first).mul_(take1), idle)
        first.add_(change)
        square = hold(torch.mul(d, d, out=change).mul_(take2), idle)
        second.mul_(keep2).add_(square)
        below = sqrt(second, out=square).div_(root).add_(eps)
        w.mul_(keep).add_(hold((first * rate).div_(below), idle))


def fusible(*flat: Tensor) -> bool:
    """Whether the Triton kernel can take these tensors [E, P]."""
    return all(lies_on_gpu(t) and t.dtype == torch.float32 and t.is_contiguous() for t in flat) and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def columns(p: Tensor) -> int:
    """How many columns of p [E, P] to update at a time: on the CPU so many that all operands stay in the cache."""
    return max(256, 2**15 // len(p)) if p.device.type == "cpu" else p.shape[1]


def grow(powers: Tensor, rates: Tensor, active: Tensor) -> Tensor:
    """Powers rate^t [E, k] of each active member's next step, in place: a product per step, the same on any device."""
    return powers.copy_(torch.where(active, powers * rates, powers))


def resting(active: Tensor) -> Tensor | None:
    """The mask of members to hold, None where it is known without waiting for a device that there are none."""
    return None if active.device.type == "cpu" and bool(active.all()) else ~active


def hold(change: Tensor, idle: Tensor | None) -> Tensor:
    """A change [E, P] made, in place, nothing for idle members: x + (-0.0) is x, bit for bit, for every x."""
    return change if idle is None else change.masked_fill_(idle, -0.0)
