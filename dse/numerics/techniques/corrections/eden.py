"""MS-EDEN: nearest elements, made unbiased by the scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.errors import OptionError, nearest
from dse.numerics.ops import Ops
from dse.numerics.techniques.corrections.base import Correction
from dse.numerics.techniques.rounding import Rounding, Stochastic
from dse.numerics.techniques.statistics import BLOCK
from dse.numerics.tree import total

_UNITS = ("operand", "elements")


@dataclass(frozen=True)
class Eden(Correction):
    """s' = SR(s c) with c = sum X^2 / sum X f(X) over ``group`` elements of a row (or of a tile's rows).

    So sum X f'(X) = sum X^2 in expectation over the draws of the scales, and under a uniformly random rotation of
    ``group`` elements E[f'(X)] = X (EDEN), although elements are rounded to nearest, with half the error of stochastic
    ones. A Hadamard with random signs is not quite such a rotation: measured, .1 % (128) or .4 % (32) of a row's root
    mean square stays as bias where a few outliers make up the row, at most .05 % in a Gaussian one.
    ``group`` is the rotation's size; where a block is larger, the block. ``bits``: random bits per scale (see
    ``stochastic``). ``units``: 'operand' as in the paper's theory, or 'elements', where X and f(X) are first divided by
    their block's scale, as the released kernels do: blocks then count alike, whatever their size. c = 1 where all
    elements are 0. Scales need headroom for c > 1: target 255.99 with UE4M3.

    Sums are those of ``dse.numerics.tree`` in FP64, over a block, then over the group's blocks; s c is rounded to FP32.

    Cost: two products and sums, 4 per element; product, division and stochastic rounding, 8 per block.
    Source: arXiv 2601.22813 (Quartet II, MS-EDEN) and its code. Raises OptionError unless group >= 1, 1 <= bits <= 23
    and ``units`` is one of the two words.
    """

    group: int = 128
    bits: int = 16
    units: str = "operand"

    def __post_init__(self) -> None:
        if self.group < 1:
            raise OptionError(f"eden.group must be at least 1, not {self.group}")
        if not 1 <= self.bits <= 23:
            raise OptionError(f"eden.bits must be between 1 and 23, not {self.bits}")
        if self.units not in _UNITS:
            raise OptionError(f"eden.units cannot be {self.units!r}{nearest(self.units, _UNITS)}")

    def rounding(self) -> Rounding:
        return Stochastic(self.bits)

    def factor(self, x: Tensor, y: Tensor, step: Tensor) -> Tensor:
        x, y = x.double(), y.double()
        if self.units == "elements":
            inverse = torch.where(step > 0, 1 / step.double(), 0.0)
            x, y = x * inverse, y * inverse
        blocks = max(1, self.group // x.shape[-1])
        above, below = (_over_groups(total(t, BLOCK), blocks) for t in (x * x, x * y))
        return torch.where(below == 0, 1.0, above / below)

    def ops(self) -> Ops:
        return Ops(
            element=4, block=8, block_bits=self.bits, why="4/element for two sums of products, 8/block for new scales"
        )


def _over_groups(sums: Tensor, blocks: int) -> Tensor:
    """The sum of ``blocks`` consecutive blocks' sums [..., K/b, 1], for each of them."""
    count = sums.shape[-2]
    groups = pad(sums, (0, 0, 0, -count % blocks)).unflatten(-2, (-1, blocks))
    spread: Tensor = total(groups, (-2,)).expand_as(groups).flatten(-3, -2)[..., :count, :]
    return spread
