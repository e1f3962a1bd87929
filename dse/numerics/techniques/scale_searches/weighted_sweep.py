"""Scale codes around the rounded one, by the error of the layer's output: ScaleSweep with weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.fixed_scales import FixedScales
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.techniques.choices import ScaleSweep
from dse.numerics.techniques.scale_searches.base import ScaleSearch
from dse.numerics.techniques.statistics import BLOCK


@dataclass(frozen=True)
class WeightedSweep(ScaleSearch):
    """The scale code from ``low`` to ``high`` around the rounded one with the smallest sum_j h_j (W_j - f(W)_j)^2.

    h is the diagonal of X^T X: the error that the block makes in the layer's output if other features are independent
    of it. The code next to the rounded one wins among equals. The published base is the scale rounded down
    (``W.scale_rounding: toward_zero``). Without weights the same search is ``W.choice: scale_sweep``.

    Cost: none at inference. Source: arXiv 2606.07618 (ScaleSweep), weighted: codes -8 to +7.
    Raises OptionError unless low <= 0 <= high and low < high.
    """

    low: int = -8
    high: int = 7

    def __post_init__(self) -> None:
        if not self.low <= 0 <= self.high or self.low == self.high:
            raise OptionError(f"weighted_sweep needs low <= 0 <= high and low < high, not {self.low} and {self.high}")

    @property
    def data(self) -> bool:
        return True

    def scales(self, quantizer: BlockQuantizer, w: Tensor, inputs: InputStatistics | None) -> FixedScales:
        assert inputs is not None
        swept = replace(quantizer, choice=ScaleSweep(self.low, self.high))
        blocks = quantizer.trace(w).blocks
        h = pad(inputs.gram.diagonal(), (0, blocks.shape[-2] * blocks.shape[-1] - w.shape[-1]))
        h = h.unflatten(-1, (1, *blocks.shape[-2:]))
        best: FixedScales | None = None
        least = torch.full_like(blocks[..., :1, :, :1], torch.inf, dtype=torch.float64)
        for number in range(self.high - self.low + 1):
            trace = swept.trace(w, candidate=number)
            alpha = 1.0 if trace.factors.alpha is None else trace.factors.alpha.double()
            off = trace.values.double() * alpha / quantizer.gain - trace.blocks.double()
            error = (h * off.square()).sum(BLOCK, keepdim=True)
            own = FixedScales.traced(swept, trace)
            best = own if best is None else best.where(trace.matrix(error < least), own)
            least = torch.minimum(error, least)
        assert best is not None
        return best
