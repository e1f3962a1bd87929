"""The slope of a linear spline through the quantizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.formats import Format
from dse.numerics.grid import round_to_grid
from dse.numerics.ops import Ops
from dse.numerics.techniques.slopes.base import Slope, bounded, check_bounds


@dataclass(frozen=True)
class Spline(Slope):
    """Q'(u) = (Q(x_j+1) - Q(x_j)) / (x_j+1 - x_j) for u in [x_j, x_j+1), at ``points`` equispaced x_j over [-max, max].

    Q is the nearest-even cast. Unsigned formats use [0, max]. Within [``lower``, ``upper``]; 1 or 0 beyond the format's
    range (``outside``: 'pass' or 'zero'). Cost: 8 per element backward.
    Source: arXiv 2509.17791, Sec. 4 (40 points). Raises OptionError unless points >= 2 and 0 <= lower <= upper.
    """

    points: int = 40
    lower: float = 0.0
    upper: float = 1e4
    outside: str = "pass"

    def __post_init__(self) -> None:
        check_bounds("spline", self.lower, self.upper, self.outside)
        if self.points < 2:
            raise OptionError(f"spline.points must be at least 2, not {self.points}")

    def __call__(self, u: Tensor, fmt: Format) -> Tensor:
        low = -fmt.max if fmt.signed else 0.0
        slopes = spline_slopes(fmt, self.points, u.dtype, u.device)
        j = ((u.detach() - low) * ((self.points - 1) / (fmt.max - low))).nan_to_num().floor()
        return bounded(slopes[j.clamp(0, self.points - 2).long()], u, fmt, self.lower, self.upper, self.outside)

    def ops(self) -> Ops:
        return Ops(element=8, why="8/element")


@lru_cache
def spline_slopes(fmt: Format, points: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The spline's slopes [points - 1], computed on the CPU; kept on the device: a CUDA graph refuses the copy."""
    x = torch.linspace(-fmt.max if fmt.signed else 0.0, fmt.max, points, dtype=torch.float64)
    return (round_to_grid(x, fmt).diff() / x.diff()).to(device, dtype)
