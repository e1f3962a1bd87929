"""What quantized layers do under torch's autocast: compute without it, and return its dtype."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Inside, a surrounding autocast on the device of ``x`` does not round operands or products to BF16."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)  # there is none on 'meta'


def output_dtype(x: Tensor) -> torch.dtype:
    """What a plain layer returns for an input x: autocast's dtype where that is on (it leaves FP64 alone), else x's."""
    if x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype
