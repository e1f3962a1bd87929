"""Scales on a logarithmic grid that is fitted to the weight: MR-GPTQ's scale fitting for MXFP4."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.fixed_scales import FixedScales
from dse.numerics.formats import FP32
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.techniques.rounding import NEAREST_EVEN
from dse.numerics.techniques.scale_searches.base import GivenStatistic, ScaleSearch


@dataclass(frozen=True)
class Fitted(ScaleSearch):
    """s = 2^(a q + b), q = round(L (log2 (Z / M) - b) / (log2 s_max - b)), L = 2^bits - 1, a = (log2 s_max - b) / L.

    s_min = 2^b and s_max are the smallest and the largest Z / M of W's blocks, M the largest element: the codes of a
    power-of-two scale format then cover the range that W has, and nothing clips by more than half a code. A weight
    whose blocks have one Z keeps it; blocks of zeros keep the scale s_min.

    Cost: none at inference where hardware takes a and b with the tensor, as it takes a tensor scale.
    Source: arXiv 2509.23202 (MR-GPTQ), Appendix H (MXFP4 with fitted scales); it needs a rotation there.
    Raises OptionError unless bits lie in 1 .. 16.
    """

    bits: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise OptionError(f"fitted.bits must lie in 1 .. 16, not {self.bits}")

    def check(self, quantizer: BlockQuantizer) -> None:
        super().check(quantizer)
        if quantizer.tensor_scale is not None or quantizer.gain != 1:
            raise OptionError("post.scales: fitted makes scales of its own; set W.tensor_scale: none and W.gain: 1")

    def scales(self, quantizer: BlockQuantizer, w: Tensor, inputs: InputStatistics | None) -> FixedScales:
        z = quantizer.trace(w).statistic.double()
        logarithm = (z / quantizer.element.max).log2()
        finite = logarithm[z > 0]
        if not len(finite):
            return FixedScales.of(quantizer, w)
        low, high, codes = finite.min(), finite.max(), 2**self.bits - 1
        a = (high - low) / codes
        q = torch.where(z > 0, (logarithm - low) / a, 0.0).round().clamp(0, codes) if a > 0 else torch.zeros_like(z)
        s = torch.exp2(a * q + low) * quantizer.element.max
        unrounded = replace(
            quantizer, scale=FP32, scale_rounding=NEAREST_EVEN, constant=None, statistic=GivenStatistic(s)
        )
        return FixedScales.of(unrounded, w)
