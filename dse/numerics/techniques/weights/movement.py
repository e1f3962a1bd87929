"""How far a weight and its quantized value move in a step: the evidence of oscillation."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from dse.numerics.quantizer import Quantizer
from dse.numerics.random import Key


class Movement(NamedTuple):
    """One step of a weight, all tensors [..., N, K]."""

    latent: Tensor
    """|W_t - W_t-1|, added up over steps: Dist_W."""
    quantized: Tensor
    """|Q(W_t) - Q(W_t-1)|, added up over steps: Dist_Q."""
    value: Tensor
    """Q(W_t)."""

    def add_to(self, state: dict[str, Tensor], first: Tensor, tracking: Tensor) -> None:
        """Adds the step to the sums ``latent`` and ``quantized`` of a state where it is ``tracking``; from zero at the
        ``first`` step. Both masks fit the shape of W.
        """
        for name, distance in (("latent", self.latent), ("quantized", self.quantized)):
            total = torch.where(first, distance, state[name] + distance)
            state[name].copy_(torch.where(tracking, total, state[name]))


def movement(quantizer: Quantizer, before: Tensor, after: Tensor, key: Key) -> Movement:
    """The step from ``before`` to ``after`` [..., N, K] as the forward quantizer of W sees it.

    Both are quantized with the same random bits and the same held tensor scale, which is read and left alone, so a
    weight that stays where it is has not moved. Cost: two quantizations of W.
    """
    reading = replace(key, sampling=False)
    before, after = before.to(wide(before)), after.to(wide(after))
    value = quantizer(after, reading).dequantize()
    return Movement((after - before).abs(), (value - quantizer(before, reading).dequantize()).abs(), value)


def wide(w: Tensor) -> torch.dtype:
    """The dtype that quantizers and the rules' sums compute in: FP32 for weights kept in BF16, else that of ``w``."""
    return torch.promote_types(w.dtype, torch.float32)


def per_element(member: Tensor) -> Tensor:
    """One value per member [...] shaped to meet its weights: [..., 1, 1]."""
    return member[..., None, None]


def nobody(mask: Tensor) -> bool:
    """Whether no member is concerned, so that the work can be left out; asked only where it need not wait for a GPU."""
    return mask.device.type == "cpu" and not bool(mask.any())
