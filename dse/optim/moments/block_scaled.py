"""Moments in blocks of neighbors that share a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dse.kernels.sqrt import sqrt
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E4M3, E8M0, UE4M3
from dse.numerics.ops import Ops
from dse.numerics.techniques.rotations.hadamard import transform
from dse.numerics.techniques.rounding import AwayFromZero
from dse.optim.layout import Layout
from dse.optim.moments.base import MomentFormat

BLOCK = 16
_MXFP8 = BlockQuantizer(E4M3, E8M0, block=32, scale_rounding=AwayFromZero())
_NVFP4 = BlockQuantizer(E2M1, UE4M3, block=BLOCK)
_RANGE = E2M1.max * UE4M3.max


def nvfp4(x: Tensor, layout: Layout) -> Tensor:
    """NVFP4 of x [E, P] float32: blocks of 16, UE4M3 scales, and one FP32 scale 2688 / max |x| per parameter tensor."""
    peaks = layout.peaks(x)
    some = (peaks > 0) & peaks.isfinite()
    up, down = (layout.spread(torch.where(some, s, 1.0)) for s in (_RANGE / peaks, peaks / _RANGE))
    return _NVFP4(x * up).dequantize() * down


@dataclass(frozen=True)
class MXFP8Moment(MomentFormat):
    """E4M3 in blocks of 32 consecutive elements of a parameter with a power-of-two scale, rounded up.

    Cost: 3 per parameter. Source: OCP Microscaling Formats v1.0; MindSpeed's low-precision optimizer (``mxfp8``).
    """

    bits: ClassVar[float] = 8 + 8 / 32

    def stored(self, x: Tensor, layout: Layout) -> Tensor:
        return _MXFP8(x.float()).dequantize().to(x.dtype)

    def ops(self) -> Ops:
        return Ops(element=3, block=2, why="3/parameter, 2/block")


@dataclass(frozen=True)
class NVFP4Moment(MomentFormat):
    """NVFP4 with one FP32 scale per parameter tensor.

    Cost: 5 per parameter. Source: the format is arXiv 2509.25149's.
    """

    bits: ClassVar[float] = 4 + 8 / BLOCK

    def stored(self, x: Tensor, layout: Layout) -> Tensor:
        return nvfp4(x.float(), layout).to(x.dtype)

    def ops(self) -> Ops:
        return Ops(element=5, block=2, why="5/parameter, 2/block")


@dataclass(frozen=True)
class NVFP4Root(MomentFormat):
    """A second moment as the square of an NVFP4 root: v <- NVFP4(sqrt(v))^2, no positive v becoming zero.

    A root below a twelfth of its block's largest is raised to it, half of the smallest step, which the cast takes to
    the smallest positive element: a v of zero would leave m / eps (the zero-point problem of arXiv 2309.01507).
    Cost: 9 per parameter. Source: arXiv 2607.04422 (Full-Stack FP4), known from secondary sources; the floor is ours.
    """

    bits: ClassVar[float] = NVFP4Moment.bits

    def stored(self, x: Tensor, layout: Layout) -> Tensor:
        root = sqrt(x.float())
        peak = root.unflatten(1, (-1, BLOCK)).amax(2, keepdim=True).expand(-1, -1, BLOCK).flatten(1)
        raised = torch.where(root > 0, torch.maximum(root, peak / (2 * E2M1.max)), root)
        return nvfp4(raised, layout).square_().to(x.dtype)

    def ops(self) -> Ops:
        return Ops(element=9, block=2, why="root, floor, NVFP4 cast and square 9/parameter, 2/block")


@dataclass(frozen=True)
class NVFP4CenteredRoot(MomentFormat):
    """A second moment as a mean and a rotated NVFP4 rest of its root, per block of 16 consecutive elements.

    r = sqrt(v), c = BF16(mean of r), d = NVFP4((r - c) H) H with H = H_16 / 4, v <- max(c + d, c / 16)^2; a v of zero
    stays zero. The mean is added up in pairs 8, 4, 2, 1 apart, over the padding too.
    Cost: 20 per parameter. Source: arXiv 2607.04422 (Full-Stack FP4), known from secondary sources: mean removed and
    Hadamard; the mean's format and block and the floor are ours.
    """

    bits: ClassVar[float] = NVFP4Moment.bits + 16 / BLOCK

    def stored(self, x: Tensor, layout: Layout) -> Tensor:
        root = sqrt(x.float())
        center = _mean(root)
        rest = torch.where(root > 0, root - center, root)  # elements of zero take part as they are
        rest = transform(nvfp4(transform(rest, BLOCK), layout), BLOCK)
        found = torch.maximum(center + rest, center / 16)
        return torch.where(root == 0, root, found.square_()).to(x.dtype)

    def ops(self) -> Ops:
        return Ops(element=20, block=4, why="root, mean, two rotations, NVFP4 cast, floor and square 20/parameter")


def _mean(x: Tensor) -> Tensor:
    """The mean of each block of 16 of x [E, P], rounded to BF16, over its elements."""
    total = x.unflatten(1, (-1, BLOCK))
    half = BLOCK
    while half > 1:
        half //= 2
        total = total[..., :half] + total[..., half:]
    mean: Tensor = (total / BLOCK).bfloat16().float().expand(-1, -1, BLOCK).flatten(1)
    return mean
