"""The differentiable gradient estimator (DGE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.kernels.exp_log import exp, log
from dse.numerics.formats import Format
from dse.numerics.ops import Ops
from dse.numerics.techniques.slopes.base import Slope, bounded, check_bounds, place


@dataclass(frozen=True)
class DGE(Slope):
    """Q'(u) = (1/k) |2t - 1|^(1/k - 1), t the offset of |u| in its grid interval: the slope of a power-law staircase.

    ``normalized: false`` is the form of arXiv 2509.17791, (delta/2) (1/k) |u - center|^(1/k - 1), whose mean slope over
    an interval of width delta is (delta/2)^(1/k) instead of 1. ``upper`` clips the spike at the interval's center.
    Beyond the format's range the slope is 1 or 0 (``outside``: 'pass' or 'zero').

    Cost: 12 per element backward. Source: arXiv 2501.17116 (k = 5, clip 3).
    Raises OptionError unless k >= 1 and 0 <= lower <= upper.
    """

    arithmetic: ClassVar[int] = 2

    k: float = 5.0
    upper: float = 3.0
    lower: float = 0.0
    normalized: bool = True
    outside: str = "pass"

    def __post_init__(self) -> None:
        check_bounds("dge", self.lower, self.upper, self.outside)
        if self.k < 1:
            raise OptionError(f"dge.k must be at least 1, not {self.k}")

    def __call__(self, u: Tensor, fmt: Format) -> Tensor:
        t, delta = place(u, fmt)
        distance = (2 * t - 1).abs().clamp_min(torch.finfo(u.dtype).tiny)
        slope = _power(distance, 1 / self.k - 1) * (1 / self.k)  # times the inverse: CUDA divides by a number so
        if not self.normalized:
            slope = slope * _power(delta / 2, 1 / self.k)
        return bounded(slope, u, fmt, self.lower, self.upper, self.outside)

    def ops(self) -> Ops:
        return Ops(element=12, why="12/element")


def _power(x: Tensor, exponent: float) -> Tensor:
    """x^exponent for x > 0. torch's own pow rounds an element by its place in memory, and so by who shares its pack."""
    return exp(log(x) * exponent)
