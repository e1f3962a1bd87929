"""Outlier clamping and compensation (OCC)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.cast import cast
from dse.numerics.formats import BF16
from dse.numerics.ops import Ops
from dse.numerics.techniques.outliers.base import Outliers, Parts


@dataclass(frozen=True)
class Clamp(Outliers):
    """X_c = clamp(X, quantile(1 - a), quantile(a)) is quantized; the rest X - X_c is added in BF16, or dropped.

    ``quantile`` is a, over the whole operand (interpolated linearly in FP64, then rounded; NaN counts as the largest;
    the bounds are constants in the backward pass). ``compensate`` keeps the sparse remainder, which costs a sparse GEMM
    at that density. Infinities are not clamped, so that they stay visible.

    Cost: two quantiles by sampling, about 2 per element, and a share 2 (1 - a) of the GEMM in BF16 when compensated.
    Source: arXiv 2501.17116 (Wang et al.), OCC, a = 0.99. Raises OptionError unless 0.5 < a < 1.
    """

    arithmetic: ClassVar[int] = 2

    quantile: float = 0.99
    compensate: bool = True

    def __post_init__(self) -> None:
        if not 0.5 < self.quantile < 1:
            raise OptionError(f"clamp.quantile must lie between 0.5 and 1, not {self.quantile}")

    @property
    def straight_through(self) -> bool:
        return self.compensate

    def split(self, x: Tensor) -> Parts:
        flat = x.detach().flatten(-2).sort(-1).values
        low, high = (_at(flat, a)[..., None, None] for a in (1 - self.quantile, self.quantile))
        clamped = torch.where(x < low, low, torch.where(x > high, high, x))
        clamped = torch.where(x.isinf(), x, clamped)
        if not self.compensate:
            return Parts((clamped,))
        return Parts((clamped,), cast(x - clamped, BF16))

    def ops(self) -> Ops:
        return Ops(element=4, why="quantiles and clamp, 4/element; the sparse GEMM is not counted")


def place(count: int, a: float) -> tuple[int, int, float]:
    """Between which of ``count`` elements in order the a-quantile lies, and the second one's share."""
    position = a * (count - 1)
    below = int(position)
    return below, min(below + 1, count - 1), position - below


def _at(ordered: Tensor, a: float) -> Tensor:
    """The a-quantile of the last axis of a sorted tensor."""
    below, above, share = place(ordered.shape[-1], a)
    if share == 0:
        return ordered[..., below] + 0.0
    mixed = ordered[..., below].double() * (1 - share) + ordered[..., above].double() * share
    return mixed.to(ordered.dtype) + 0.0
