"""LQER: the error of a quantized weight is approximated in 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dse.numerics.input_statistics import InputStatistics
from dse.numerics.quantizer import Quantized
from dse.numerics.techniques.branches.base import Branch, ThinFactors, check_rank, truncated


@dataclass(frozen=True)
class Lqer(Branch):
    """W is quantized whole; the branch is E = W - f(W) in rank r: of the smallest ||(E - L) diag(s)||.

    s_j is the mean of |X_j| over the calibration data, over sqrt(max s * min s) and at least 1e-4 (L2QER); of rotated
    features, whose means nobody takes, it is the root of the mean square. Without a method that calibrates, s is 1:
    plain LQER. The published factors and activations are MXINT8, the weights MXINT4; here factors are BF16.

    Cost: 2 r (K + N) per token on the matrix unit in BF16, and 16 r (1 / K + 1 / N) bits per weight.
    Source: arXiv 2402.02446 (LQER), Sec. 3: rank 32. Raises OptionError for a rank below 1.
    """

    rank: int = 32
    weighted: bool = True

    def __post_init__(self) -> None:
        check_rank("lqer", self.rank)

    @property
    def data(self) -> bool:
        """Whether s is taken from X."""
        return self.weighted

    def split(
        self, w: Tensor, inputs: InputStatistics | None, quantize: Callable[[Tensor], Quantized]
    ) -> tuple[Quantized, ThinFactors]:
        operand = quantize(w)
        error = w.double() - operand.dequantize().double()
        if not self.weighted or inputs is None:
            return operand, ThinFactors.of(*truncated(error, self.rank))
        s = inputs.size.clamp_min(1e-30)
        s = (s / (s.max() * s.min()).sqrt()).clamp_min(1e-4)
        left, right = truncated(error * s, self.rank)
        return operand, ThinFactors.of(left, right / s)
