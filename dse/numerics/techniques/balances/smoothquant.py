"""SmoothQuant: outliers of activations move into weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.ops import Ops
from dse.numerics.techniques.balances.base import Balance


@dataclass(frozen=True)
class SmoothQuant(Balance):
    """s_j = max |X_j|^alpha / max |W_j|^(1 - alpha), per input feature j; 1 where either maximum is 0.

    The published factors are folded into the layer before, which makes them free; here every layer has its own.

    Cost: 1 per element of X, the product with 1 / s. Source: arXiv 2211.10438 (SmoothQuant), eq. 4.
    Raises OptionError unless alpha lies in [0, 1].
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise OptionError(f"smoothquant.alpha must lie in [0, 1], not {self.alpha}")

    def factors(self, quantizer: BlockQuantizer, w: Tensor, inputs: InputStatistics) -> Tensor:
        x, own = inputs.largest, w.double().abs().amax(0)
        s = x**self.alpha / own ** (1 - self.alpha)
        return s.where((x > 0) & (own > 0), 1.0)

    def ops(self) -> Ops:
        return Ops(element=1, why="1/element for the factor of its feature")
