"""Error diffusion: each weight is rounded after it has taken up the output error of those before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.post.base import PostTraining


@dataclass(frozen=True)
class ErrorDiffusion(PostTraining):
    """q_j = Q(w_j + <X_j, u_j> / ||X_j||^2), u_{j+1} = u_j + (w_j - q_j) X_j: the greedy path following of GPFQ.

    u is the error of the layer's output so far, so q_j is the weight that would cancel it best, rounded. Columns go
    from left to right under scales that are fixed before. Inner products come from X's Gram matrix; X is the layer's
    input before its own quantization. A feature that calibration never saw is rounded to nearest. In FP64.

    Cost: none at inference. Source: arXiv 2010.15703 (Lybrand and Saab, greedy path-following quantization), eq. 2; the
    error diffusion of arXiv 2310.10537 (MX formats).
    """

    data: ClassVar[bool] = True

    def quantize(self, quantizer: Quantizer, w: Tensor, inputs: InputStatistics | None, key: Key) -> Quantized:
        if not isinstance(quantizer, BlockQuantizer):
            return quantizer(w, key)
        assert inputs is not None
        scales, gram, wide = self.fixed(quantizer, w, inputs), inputs.gram, w.double()
        alpha = 1.0 if scales.alpha is None else scales.alpha.double().reshape(())
        values, errors = torch.empty_like(wide), torch.zeros_like(wide)
        for j in range(wide.shape[1]):
            moved = wide[:, j]
            if gram[j, j] > 0:
                moved = moved + errors[:, :j] @ gram[:j, j] / gram[j, j]
            values[:, j] = q = scales.column(moved, j)
            errors[:, j] = wide[:, j] - q * alpha
        return Quantized(values.to(w.dtype), scales.alpha)
