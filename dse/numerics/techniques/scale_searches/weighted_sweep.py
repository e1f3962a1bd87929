"""Scale codes around the rounded one, by the error of the layer's output: ScaleSweep with weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.block_trace import BlockTrace
from dse.numerics.fixed_scales import FixedScales
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.techniques.choices import ScaleSweep
from dse.numerics.techniques.rounding import AwayFromZero
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

        def error(trace: BlockTrace) -> Tensor:
            alpha = 1.0 if trace.factors.alpha is None else trace.factors.alpha.double()
            off = trace.values.double() * alpha / quantizer.gain - trace.blocks.double()
            total: Tensor = (h * off.square()).sum(BLOCK, keepdim=True)
            return total

        for number in range(self.high - self.low + 1):
            trace = swept.trace(w, candidate=number)
            off, own = error(trace), FixedScales.traced(swept, trace)
            best = own if best is None else best.where(trace.matrix(off < least), own)
            least = torch.minimum(off, least)
        assert best is not None
        gone = self._gone(quantizer.trace(w))
        if self.high and gone.any():  # a scale of zero has no codes around it: those from 1 up, where it is rounded up
            lifted = replace(quantizer, scale_rounding=AwayFromZero(), choice=ScaleSweep(0, self.high - 1))
            for number in range(self.high):
                trace = lifted.trace(w, candidate=number)
                off = torch.where(gone, error(trace), torch.inf)
                best = best.where(trace.matrix(off < least), FixedScales.traced(lifted, trace))
                least = torch.minimum(off, least)
        return best

    def _gone(self, trace: BlockTrace) -> Tensor:
        """The blocks whose scale was rounded to zero."""
        return ((trace.factors.decode == 0) & (trace.statistic > 0)).reshape(trace.statistic.shape)
