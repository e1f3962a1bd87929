"""The straight-through estimator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.formats import Format
from dse.ops import FREE, Ops
from dse.techniques.slopes.base import Slope


@dataclass(frozen=True)
class StraightThrough(Slope):
    """Q'(u) = 1, saturated values included.

    Cost: none. Source: Bengio et al., arXiv 1308.3432.
    """

    @property
    def is_identity(self) -> bool:
        return True

    def __call__(self, u: Tensor, fmt: Format) -> Tensor:
        return torch.ones_like(u)

    def ops(self) -> Ops:
        return FREE
