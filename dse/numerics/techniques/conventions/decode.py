"""The decode convention: the stored scale multiplies the element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dse.numerics.formats import Format
from dse.numerics.ops import FREE, Ops
from dse.numerics.techniques.conventions.base import Convention, Factors, Level, check, divide, replace_zero


@dataclass(frozen=True)
class Decode(Convention):
    """s_q = q(Z S_enc / c), S_enc = T c / g (1 without a tensor scale); u = X S_enc / s_q; f(X) = Q(u) s_q / S_enc.

    The order of FP32 operations is TransformerEngine's: Z * (S_enc * fp32(1/c)), or with four-over-six and IF4
    (Z / 6) * S_enc, times 1.5 for c = 4; then 1 / (s_q * (1 / S_enc)), at most the largest float. A zero g gives
    S_enc = 1, and so does a g beside which T c vanishes; an infinite g gives NaN (TransformerEngine: 1, which hides an
    overflow). ``zero``: what a scale that underflows becomes, 'flush', 'smallest' or 'one'. ``encode_with``:
    'quantized', or 'unquantized' (u = X c / Z, decoded by s_q all the same).

    Cost: none beyond the base count. Source: arXiv 2509.25149 (NVFP4) and OCP MX v1.0.
    Raises OptionError for an unknown word.
    """

    zero: str = "flush"
    encode_with: str = "quantized"

    def __post_init__(self) -> None:
        check(self.zero, self.encode_with)

    def factors(
        self, z: Tensor, c: float, level: Level | None, fmt: Format, quantize: Callable[[Tensor], Tensor]
    ) -> Factors:
        largest = torch.finfo(z.dtype).max
        inverse_c = torch.full((), 1.0 / c, dtype=z.dtype, device=z.device)
        if level is None:
            scale, alpha = z * inverse_c, None
            s_q = replace_zero(quantize(scale), self.zero, fmt)
            step = s_q
        else:
            s_enc = divide(level.target * c, level.g).clamp_max(largest)
            s_enc = torch.where((level.g == 0) | (s_enc == 0), 1.0, s_enc).where(level.g < torch.inf, torch.nan)
            alpha = divide(1.0, s_enc)
            scale = z * (s_enc * inverse_c) if level.base is None else _divided(z, level.base) * s_enc
            scale = scale if level.base in (None, c) else scale * (level.base / c)
            s_q = replace_zero(quantize(scale), self.zero, fmt)
            step = s_q * alpha
        if self.encode_with == "unquantized":
            step = scale if alpha is None else scale * alpha
        return Factors(divide(1.0, step).clamp_max(largest), s_q, alpha)

    def ops(self) -> Ops:
        return FREE


def _divided(z: Tensor, c: float) -> Tensor:
    return z / torch.full((), c, dtype=z.dtype, device=z.device)  # CUDA multiplies by 1 / c where c is a number
