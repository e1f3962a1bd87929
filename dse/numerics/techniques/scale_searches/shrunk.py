"""Scales from a grid of shrunk maxima, by the error of the weights: MR-GPTQ's observer."""

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
from dse.numerics.techniques.statistics import BLOCK


@dataclass(frozen=True)
class Shrunk(ScaleSearch):
    """Z r per block, with the r that has the smallest error of W: 1, .992, .984 ... down to ``least``.

    The error of a block is sum |W - f(W)|^exponent under the unrounded scale Z r / M, M the largest element; r takes
    ``candidates`` values, evenly spaced, and the first of equals wins. The scale is rounded to its format afterwards,
    as the quantizer makes it of Z r, under the tensor scale of the whole W.

    Cost: none at inference. Source: arXiv 2509.23202 (MR-GPTQ), Sec. 4, and its released observer: 100 candidates, step
    0.008, exponent 2.4. Raises OptionError unless candidates is at least 2, 0 < least < 1 and the exponent is positive.
    """

    candidates: int = 100
    least: float = 0.208
    exponent: float = 2.4

    def __post_init__(self) -> None:
        if self.candidates < 2:
            raise OptionError(f"shrunk.candidates must be at least 2, not {self.candidates}")
        if not 0 < self.least < 1:
            raise OptionError(f"shrunk.least must lie in (0, 1), not {self.least}")
        if not self.exponent > 0:
            raise OptionError(f"shrunk.exponent must be positive, not {self.exponent}")

    def scales(self, quantizer: BlockQuantizer, w: Tensor, inputs: InputStatistics | None) -> FixedScales:
        z = quantizer.trace(w).statistic
        plain = replace(quantizer, tensor_scale=None, constant=None, gain=1.0)
        unrounded = replace(plain, scale=FP32, scale_rounding=NEAREST_EVEN)
        step = (1 - self.least) / (self.candidates - 1)
        best, least, unit = z, torch.full_like(z, torch.inf), _unit(z)
        for i in range(self.candidates):
            own = z * (1 - step * i)
            trace = replace(unrounded, statistic=GivenStatistic(own)).trace(w)
            error = ((trace.blocks - trace.values) * unit).abs().pow(self.exponent).sum(BLOCK, keepdim=True)
            best, least = torch.where(error < least, own, best), torch.minimum(error, least)
        return FixedScales.of(replace(quantizer, statistic=GivenStatistic(best)), w)


def _unit(z: Tensor) -> Tensor:
    """The power of two under which a block's errors are raised to a power: 1 but where FP32 would lose them."""
    usual = ((z >= 2.0**-30) & (z <= 2.0**30)) | (z == 0)
    return torch.where(usual, 1.0, torch.ldexp(torch.ones_like(z), -z.frexp().exponent.clamp(-126, 126)))
