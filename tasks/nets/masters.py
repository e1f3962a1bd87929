"""Modules that compute in FP32 with the FP32 parameters themselves, whatever the format of activations."""

from __future__ import annotations

import torch
from torch import Tensor


class Masters:
    """Mixin of a module whose own parameters stay FP32 where activations are BF16, and whose sums are FP32.

    It returns the format of its input. Where its inputs have none (token numbers) it returns `activations`, which a
    pack sets; None: the format of its parameters. A module without this mixin computes with BF16 copies of its own.
    """

    activations: torch.dtype | None = None


def wide(x: Tensor) -> Tensor:
    """x in FP32 at least; x itself where it is so."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def wide_or_none(x: Tensor | None) -> Tensor | None:
    """A parameter that a module may lack, in FP32 at least."""
    return None if x is None else wide(x)
