"""The encode convention: the stored scale multiplies X before the cast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dse.numerics.formats import Format
from dse.numerics.ops import Ops
from dse.numerics.techniques.conventions.base import Convention, Factors, Level, check, divide, replace_zero


@dataclass(frozen=True)
class Encode(Convention):
    """s_q = q(c g' / Z), f(X) = Q(X s_q / g') g' / s_q, with g' = 1 without a tensor scale.

    With one, g' = g, or with ``divisor`` g' = g / (c T): without the divisor only scale codes above c are ever used,
    so narrow scale formats saturate. Blocks of zeros use Z = 1, operands of zeros g = 1, and an infinite g is NaN.
    ``zero``: 'smallest' or 'one' for a scale that underflows; flushing has no meaning here, the scale is divided by.
    Decoded values are quotients, exact in no short format unless scales are powers of two: they need FP32 operands.

    Cost: one more division per block, 1 / s_q for decoding; that the GEMM itself would run slower is not counted.
    Source: arXiv 2509.17791, Def. 1 and Sec. 3, and its simulator. Raises OptionError for an unknown word.
    """

    divisor: bool = False
    zero: str = "smallest"
    encode_with: str = "quantized"

    def __post_init__(self) -> None:
        check(self.zero, self.encode_with, ("smallest", "one"))

    def factors(
        self, z: Tensor, c: float, level: Level | None, fmt: Format, quantize: Callable[[Tensor], Tensor]
    ) -> Factors:
        largest = torch.finfo(z.dtype).max
        z = torch.where(z == 0, 1.0, z)
        if level is None:
            scale, alpha = divide(c, z), None
        else:
            g = torch.where(level.g == 0, 1.0, level.g).where(level.g < torch.inf, torch.nan)
            alpha = g / torch.full_like(g, c * level.target) if self.divisor else g  # CUDA multiplies by 1 / number
            alpha = torch.where(alpha == 0, 1.0, alpha)  # a g too small to divide counts as none
            scale = divide(c, z) * alpha
        scale = scale.clamp_max(largest)
        s_q = replace_zero(quantize(scale), self.zero, fmt)
        used = s_q if self.encode_with == "quantized" else scale
        encode = used if alpha is None else (used / alpha).clamp_max(largest)
        return Factors(encode, divide(1.0, s_q), alpha)

    def largest(self, fmt: Format) -> float:
        return 1 / (fmt.smallest if self.zero == "smallest" or not fmt.subnormals else 1.0)

    def ops(self) -> Ops:
        return Ops(block=1, why="1/block for the decoding factor 1 / s_q")
