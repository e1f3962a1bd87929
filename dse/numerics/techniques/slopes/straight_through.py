"""The straight-through estimator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.numerics.formats import Format
from dse.numerics.ops import FREE, Ops
from dse.numerics.techniques.slopes.base import Slope, bounded, check_bounds


@dataclass(frozen=True)
class StraightThrough(Slope):
    """Q'(u) = 1; beyond the format's range 1 ('pass') or 0 ('zero': the clipped estimator, QuEST's trust mask).

    Cost: none, or a comparison per element. Sources: Bengio et al., arXiv 1308.3432; arXiv 2502.05003 for the mask.
    Raises OptionError for another word.
    """

    outside: str = "pass"

    def __post_init__(self) -> None:
        check_bounds("straight_through", 1, 1, self.outside)

    @property
    def is_identity(self) -> bool:
        return self.outside == "pass"

    def __call__(self, u: Tensor, fmt: Format) -> Tensor:
        return bounded(torch.ones_like(u), u, fmt, 1, 1, self.outside)

    def ops(self) -> Ops:
        return FREE if self.is_identity else Ops(element=2, why="2/element to compare and mask")
