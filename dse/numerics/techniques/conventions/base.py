"""What a scale convention is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dse.errors import OptionError, nearest
from dse.numerics.formats import Format
from dse.numerics.ops import Ops

ZERO = ("flush", "smallest", "one")
"""A scale that rounds to zero: keep it (the block becomes zeros), use the smallest positive scale, or use 1."""
ENCODE_WITH = ("quantized", "unquantized")
"""Which scale divides the elements before their cast; decoding always uses the quantized one."""


class Factors(NamedTuple):
    """Elements are cast from ``X * encode``; the decoded value is ``Q * decode * alpha``."""

    encode: Tensor
    decode: Tensor
    alpha: Tensor | None


class Level(NamedTuple):
    """The second level: the reference g and the target T of the tensor scale.

    ``base``: where a choice divides Z first (see ``Choice.divides``), the constant that it is divided by, else None.
    """

    g: Tensor
    target: float
    base: float | None = None


class Convention(ABC):
    """From a block's Z to its factors. ``quantize`` is the cast to the scale format."""

    zero: str
    encode_with: str

    @abstractmethod
    def factors(
        self, z: Tensor, c: float, level: Level | None, fmt: Format, quantize: Callable[[Tensor], Tensor]
    ) -> Factors:
        """``z``: statistic per block (or per element); ``c``: the element value that Z is mapped to."""

    def largest(self, fmt: Format) -> float:
        """The decode factor of a block whose Z is infinite."""
        return fmt.max

    @abstractmethod
    def ops(self) -> Ops:
        """Cost beyond the block quantizer's base count."""


def check(zero: str, encode_with: str, zeros: tuple[str, ...] = ZERO) -> None:
    """Raises OptionError for an unknown policy."""
    if zero not in zeros:
        raise OptionError(f"zero cannot be {zero!r}{nearest(zero, zeros)}")
    if encode_with not in ENCODE_WITH:
        raise OptionError(f"encode_with cannot be {encode_with!r}{nearest(encode_with, ENCODE_WITH)}")


def replace_zero(s_q: Tensor, policy: str, fmt: Format) -> Tensor:
    """The quantized scale after the zero policy; a replaced scale has no gradient."""
    if policy == "flush":
        return s_q
    return torch.where(s_q == 0, fmt.smallest if policy == "smallest" else 1.0, s_q)


class _Divide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: float, x: Tensor) -> Tensor:
        y = divide(c, x)
        ctx.c = c
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        y = ctx.saved_tensors[0].clamp_max(torch.finfo(grads[0].dtype).max)
        return None, -(grads[0] * y) * (y / ctx.c)


def divide(c: float, x: Tensor) -> Tensor:
    """c / x, correctly rounded; torch computes ``float / tensor`` as 1/x times the float, off by an ulp in a quarter.

    The backward pass stays finite for tiny x, where torch's own gives a block of zeros 0 * (c / x^2) = 0 * inf = NaN.
    """
    if not (x.requires_grad and torch.is_grad_enabled()):
        return torch.full((), c, dtype=x.dtype, device=x.device) / x  # a fill, not a copy: CUDA graphs refuse copies
    y: Tensor = _Divide.apply(c, x)  # type: ignore[no-untyped-call]
    return y
