"""The tensor scale from the operand at hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.formats import Format
from dse.ops import Ops
from dse.techniques.tensor_scales.base import TensorScale


@dataclass(frozen=True)
class Current(TensorScale):
    """S_enc = T * c / g with g = max over blocks of Z: the largest block's scale becomes T.

    ``target`` is T, by default the largest value of the scale format (448 for UE4M3, which gives NVFP4's 448 * 6 / g).
    A zero or infinite g gives S_enc = 1. The factor is a constant in the backward pass ('ignore').

    Cost: a max over block maxima, one multiplication per GEMM output, and, what matters in hardware, a second read of
    the operand behind a grid-wide dependency. Source: arXiv 2509.25149, App.; arXiv 2609.02846 for T.
    Raises OptionError unless 0 < target < inf.
    """

    target: float | None = None

    def __post_init__(self) -> None:
        if self.target is not None and not 0 < self.target < float("inf"):
            raise OptionError(f"tensor_scale target must be positive and finite, not {self.target}")

    def __call__(self, z: Tensor, scale: Format, constant: float) -> Tensor:
        g = z.detach().amax((-4, -2), keepdim=True)
        largest = torch.finfo(z.dtype).max
        # a true division: torch computes number / tensor as a rounded reciprocal times the number
        s = torch.full_like(g, (self.target or scale.max) * constant).div_(g).clamp_max_(largest)
        return torch.where((g == 0) | (s == 0), 1.0, s)

    def ops(self) -> Ops:
        return Ops(block=1, output=0.5, reads=1, syncs=1, why="max of block maxima 1/block, 1/output for the pair")
