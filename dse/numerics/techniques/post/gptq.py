"""GPTQ: columns are rounded one after the other, and later ones make up for the errors of earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dse.errors import OptionError, nearest
from dse.numerics.block import BlockQuantizer
from dse.numerics.damped_inverse import damped_inverse, not_positive_definite
from dse.numerics.fixed_scales import FixedScales
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.post.base import PostTraining

_ORDERS = ("static", "none")


@dataclass(frozen=True)
class Gptq(PostTraining):
    """q_j = Q(w_j), then w_k <- w_k - (w_j - q_j) U_jk / U_jj for k > j, with U^T U = (X^T X + d I)^-1, U upper.

    d is ``damping`` times the mean of the diagonal of X^T X. Scales are fixed before the first column is rounded.
    ``order`` 'static': columns in the order of a falling diagonal of X^T X (activation order), each under the scale of
    its own block, so nothing is permuted at inference; 'none': from left to right. ``block``: columns whose errors are
    applied to later blocks at once, which saves memory traffic and changes nothing else. A feature that calibration
    never saw different from zero is rounded to nearest. In FP64.

    Released codes replace U by the identity where the matrix is not positive definite; here that is an error.

    Cost: none at inference. Source: arXiv 2210.17323 (GPTQ), Alg. 1; arXiv 2509.23202 (MR-GPTQ), static activation
    order, damping 0.01. Raises OptionError for a negative damping, a block below 1 and an unknown order.
    """

    damping: float = 0.01
    block: int = 128
    order: str = "static"
    data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.damping < float("inf"):
            raise OptionError(f"gptq.damping must be at least 0 and finite, not {self.damping}")
        if self.block < 1:
            raise OptionError(f"gptq.block must be at least 1, not {self.block}")
        if self.order not in _ORDERS:
            raise OptionError(f"gptq.order cannot be {self.order!r}{nearest(self.order, _ORDERS)}")

    def quantize(self, quantizer: Quantizer, w: Tensor, inputs: InputStatistics | None, key: Key) -> Quantized:
        if not isinstance(quantizer, BlockQuantizer):
            return quantizer(w, key)
        assert inputs is not None
        scales = self.fixed(quantizer, w, inputs)
        return Quantized(self._solve(w.double(), inputs.gram, scales).to(w.dtype), scales.alpha)

    def _solve(self, w: Tensor, gram: Tensor, scales: FixedScales) -> Tensor:
        """Rounded values [N, K], without alpha, from W [N, K] and X^T X [K, K], both float64."""
        alpha = 1.0 if scales.alpha is None else scales.alpha.double().reshape(())
        diagonal = gram.diagonal()
        columns = len(diagonal)
        order = torch.arange(columns, device=w.device)
        if self.order == "static":
            order = torch.sort(diagonal, descending=True, stable=True).indices
        u = self._factor(gram[order][:, order])
        places, w = order.tolist(), w[:, order].clone()
        values = torch.empty_like(w)
        for first in range(0, columns, self.block):
            last = min(first + self.block, columns)
            errors = torch.empty_like(w[:, first:last])
            for j in range(first, last):
                q = scales.column(w[:, j].contiguous(), places[j])
                values[:, j] = q
                errors[:, j - first] = error = (w[:, j] - q * alpha) / u[j, j]
                w[:, j:last] -= torch.outer(error, u[j, j:last])
            w[:, last:] -= errors @ u[first:last, last:]
        back = torch.empty_like(values)
        back[:, order] = values
        return back

    def _factor(self, gram: Tensor) -> Tensor:
        """U [K, K], upper triangular, of the damped Gram matrix. Raises CalibrationError where there is none."""
        inverse = damped_inverse(gram, self.damping, "gptq", "post.damping")
        upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
        if failed != 0:
            raise not_positive_definite(self.damping, "gptq", "post.damping")
        factor: Tensor = upper
        return factor
