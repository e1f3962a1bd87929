"""Round to nearest: direct cast of trained weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.post.base import PostTraining


@dataclass(frozen=True)
class Rtn(PostTraining):
    """f(W): every weight as the quantizer rounds it, without a look at data (unless a balance or scales take one).

    Cost: none at inference. Source: arXiv 2310.10537 (MX formats), direct cast; OCP MX v1.0.
    """

    def quantize(self, quantizer: Quantizer, w: Tensor, inputs: InputStatistics | None, key: Key) -> Quantized:
        if self.scales is None or not isinstance(quantizer, BlockQuantizer):
            return quantizer(w, key)
        return self.fixed(quantizer, w, inputs).round(w)
