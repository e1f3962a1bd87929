"""A staircase of sigmoids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dse.errors import OptionError
from dse.kernels.exp_log import exp
from dse.numerics.formats import Format
from dse.numerics.ops import Ops
from dse.numerics.techniques.slopes.base import Slope, bounded, check_bounds, place


@dataclass(frozen=True)
class Sigmoid(Slope):
    """Q'(u) = (12/T) sigma(z) (1 - sigma(z)), z = (12/T)(t - 1/2): between two grid values Q is a sigmoid.

    ``temperature`` T widens the step; the peak is 3/T. Within [``lower``, ``upper``]; 1 or 0 beyond the format's range
    (``outside``: 'pass' or 'zero'). Cost: 13 per element backward.
    Source: arXiv 2509.17791, Sec. 4 (T = 0.5). Raises OptionError unless T > 0 and 0 <= lower <= upper.
    """

    arithmetic: ClassVar[int] = 2

    temperature: float = 0.5
    lower: float = 0.0
    upper: float = 1e4
    outside: str = "pass"

    def __post_init__(self) -> None:
        check_bounds("sigmoid", self.lower, self.upper, self.outside)
        if not self.temperature > 0:
            raise OptionError(f"sigmoid.temperature must be positive, not {self.temperature}")

    def __call__(self, u: Tensor, fmt: Format) -> Tensor:
        sharp = 12 / self.temperature
        e = exp(-sharp * (place(u, fmt).t - 0.5).abs())  # torch.sigmoid rounds by an element's place in memory
        return bounded(sharp * e / (1 + e).square(), u, fmt, self.lower, self.upper, self.outside)

    def ops(self) -> Ops:
        return Ops(element=13, why="13/element")
