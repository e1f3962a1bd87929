"""Moments in few bits with one power-of-two scale per parameter tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dse.numerics.formats import E4M3
from dse.numerics.grid import floor_power, round_to_grid
from dse.numerics.ops import Ops
from dse.optim.layout import Layout
from dse.optim.moments.base import MomentFormat

_LEAST = -126
"""Of a scale's exponent: FP32's smallest normal number."""


def power_below(x: Tensor) -> Tensor:
    """The largest power of two that is at most x, a tensor of positive float32; 1 where x is not finite."""
    return torch.where(x.isfinite(), floor_power(x, _LEAST), 1.0)


def scales(peaks: Tensor, largest: float) -> Tensor:
    """2^floor(log2(largest / peak)) for the peaks [E, n] of n parameters, 1 for a peak of 0; at most 2^126."""
    room = torch.where(peaks > 0, largest / peaks, 1.0).clamp_max(2.0**126)
    return power_below(room)


@dataclass(frozen=True)
class TensorScaledFP8(MomentFormat):
    """E4M3, nearest-even, times one scale per parameter tensor: m <- E4M3(S m) / S, S = 2^floor(log2(448 / max |m|)).

    Cost: 3 per parameter, and the maximum. Source: arXiv 2310.18313 (FP8-LM, MS-AMP): Adam's first moment in FP8 with
    tensor scaling; arXiv 2501.17116 (Wang et al.) trains with it.
    """

    bits: ClassVar[float] = 8

    def stored(self, x: Tensor, layout: Layout) -> Tensor:
        single = x.float()
        scale = layout.spread(scales(layout.peaks(single), E4M3.max))
        return round_to_grid(single * scale, E4M3).div_(scale).to(x.dtype)

    def ops(self) -> Ops:
        return Ops(element=4, why="maximum, scaling, cast and scaling back 4/parameter")


@dataclass(frozen=True)
class TensorScaledFP16(MomentFormat):
    """FP16, nearest-even, times one scale per parameter tensor: v <- FP16(S v) / S, S = 2^floor(log2(65504 / max v)).

    Without the scale squares of small gradients lie below FP16's smallest value, 2^-24.
    Cost: 3 per parameter, and the maximum. Source: arXiv 2310.18313 (FP8-LM, MS-AMP): Adam's second moment.
    """

    bits: ClassVar[float] = 16

    def stored(self, x: Tensor, layout: Layout) -> Tensor:
        single = x.float()
        scale = layout.spread(scales(layout.peaks(single), torch.finfo(torch.float16).max))
        return (single * scale).half().float().div_(scale).to(x.dtype)

    def ops(self) -> Ops:
        return Ops(element=4, why="maximum, scaling, cast and scaling back 4/parameter")


@dataclass(frozen=True)
class BFloat16Moment(MomentFormat):
    """BF16, nearest-even. Cost: none counted. Source: DeepSeek-V3, arXiv 2412.19437, Sec. 3.3 (both moments)."""

    bits: ClassVar[float] = 16

    def stored(self, x: Tensor, layout: Layout) -> Tensor:
        return x.bfloat16().to(x.dtype)

    def ops(self) -> Ops:
        return Ops(why="0")
