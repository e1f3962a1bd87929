"""AWQ: the weights that meet the largest activations are scaled up before they are rounded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.ops import Ops
from dse.numerics.techniques.balances.base import Balance


@dataclass(frozen=True)
class Awq(Balance):
    """s_j = mean |X_j|^b / sqrt(max s * min s), with the b of i / grid, i = 0 .. grid - 1, of the smallest error.

    The error is that of the layer's output with rounded weights, ||X (Q(W s) / s - W)^T||^2, from X's Gram matrix; a
    rotation of the recipe takes no part in the search. The first of equals wins; s is at least 1e-4 before it is
    normalized. The published search adds clipping of weights; ``scales`` does that here.

    Cost: 1 per element of X, the product with 1 / s. Source: arXiv 2306.00978 (AWQ), eq. 4 and 5, and its released
    search. Raises OptionError unless grid is at least 2.
    """

    grid: int = 20

    def __post_init__(self) -> None:
        if self.grid < 2:
            raise OptionError(f"awq.grid must be at least 2, not {self.grid}")

    def factors(self, quantizer: BlockQuantizer, w: Tensor, inputs: InputStatistics) -> Tensor:
        best, least = torch.ones_like(inputs.mean), float("inf")
        for i in range(self.grid):
            s = (inputs.mean ** (i / self.grid)).clamp_min(1e-4)
            s = s / (s.max() * s.min()).sqrt()
            rounded = quantizer(w * s.to(w.dtype)).dequantize().double() / s
            off = rounded - w.double()
            error = float(((off @ inputs.gram) * off).sum())
            if error < least:
                best, least = s, error
        return best

    def ops(self) -> Ops:
        return Ops(element=1, why="1/element for the factor of its feature")
