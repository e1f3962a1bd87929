"""SVDQuant: the largest singular values of a weight stay in 16 bits, what is left of it is quantized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dse.errors import OptionError
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.quantizer import Quantized
from dse.numerics.techniques.branches.base import Branch, ThinFactors, check_rank, truncated


@dataclass(frozen=True)
class SvdQuant(Branch):
    """L is W's best approximation of rank r, R = W - L is quantized; then L is that of W - f(R), and so on.

    Of ``iterations`` pairs that with the smallest error of W is kept (of the layer's output, where the method has
    statistics of X); the first of equals. L has BF16's values before R is taken. The published system moves outliers
    of X into W first (``balance: smoothquant``).

    Cost: 2 r (K + N) per token on the matrix unit in BF16, and 16 r (1 / K + 1 / N) bits per weight.
    Source: arXiv 2411.05007 (SVDQuant), Sec. 4: rank 32. Raises OptionError for a rank or iterations below 1.
    """

    rank: int = 32
    iterations: int = 1

    def __post_init__(self) -> None:
        check_rank("svdquant", self.rank)
        if self.iterations < 1:
            raise OptionError(f"svdquant.iterations must be at least 1, not {self.iterations}")

    def split(
        self, w: Tensor, inputs: InputStatistics | None, quantize: Callable[[Tensor], Quantized]
    ) -> tuple[Quantized, ThinFactors]:
        best, least, part = None, float("inf"), w
        for _ in range(self.iterations):
            low_rank = ThinFactors.of(*truncated(part, self.rank))
            operand = quantize(w - low_rank.whole(w))
            part = w - operand.dequantize()
            off = (part - low_rank.whole(w)).double()
            error = float((off * (off if inputs is None else off @ inputs.gram)).sum())
            if error < least or best is None:
                best, least = (operand, low_rank), error
        assert best is not None
        return best

    def quantized(self, w: Tensor, low_rank: ThinFactors) -> Tensor:
        return w - low_rank.whole(w)
