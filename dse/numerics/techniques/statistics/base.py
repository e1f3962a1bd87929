"""What a block statistic is, and the node that gives it a gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from dse.numerics.ops import Ops

BLOCK = (-3, -1)
"""Dimensions of one block in a blocked operand [..., R/t, t, K/b, b]."""
TENSOR = (-4, -3, -2, -1)
"""Dimensions of the whole operand."""
GRADIENTS = ("constant", "full", "diagonal")
"""How the scale takes part in the backward pass: not at all; exactly; or only through each element's own derivative."""


class Statistic(ABC):
    """Z of a block and its derivative. Reductions run over ``dims``, so any leading axes are independent.

    ``counts_zeros``: whether zeros beside a block's elements would change Z or its derivative; where an operand does
    not fill its last block, such a statistic is given the elements alone. ``arithmetic``: see
    ``dse.numerics.registry``.
    """

    counts_zeros: ClassVar[bool] = True
    arithmetic: ClassVar[int] = 1

    @abstractmethod
    def value(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        """Z > 0 (0 for a block of zeros), reduced over ``dims``, which stay as size 1."""

    @abstractmethod
    def slope(self, x: Tensor, z: Tensor, dims: tuple[int, ...]) -> Tensor:
        """dZ/dX_k for every element: the shape of ``x``."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost of the forward statistic."""

    @abstractmethod
    def slope_ops(self) -> Ops:
        """Cost of the derivative, counted when the scale's gradient is not constant."""


class _Statistic(torch.autograd.Function):
    """Z forward, g dZ/dX backward; 'diagonal' has one copy of Z per element, so that g does not sum over the block."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, statistic: Statistic, dims: tuple[int, ...], diagonal: bool) -> Tensor:
        z = statistic.value(x, dims)
        ctx.statistic, ctx.dims, ctx.diagonal = statistic, dims, diagonal
        ctx.save_for_backward(x, z)
        return z.expand_as(x).clone() if diagonal else z

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        x, z = ctx.saved_tensors
        return grads[0] * ctx.statistic.slope(x, z, ctx.dims), None, None, None


def measure(x: Tensor, statistic: Statistic, gradient: str = "constant", dims: tuple[int, ...] = BLOCK) -> Tensor:
    """Z of ``x`` [..., R/t, t, K/b, b] over ``dims``, with the gradient that one of ``GRADIENTS`` names.

    Shape [..., R/t, 1, K/b, 1] for blocks; with 'diagonal', while a gradient is wanted, the shape of ``x``.
    Source: arXiv 2509.17791, Prop. 1 (diagonal); full vector-Jacobian product by the chain rule.
    """
    if gradient == "constant" or not (x.requires_grad and torch.is_grad_enabled()):
        return statistic.value(x.detach(), dims)
    z: Tensor = _Statistic.apply(x, statistic, dims, gradient == "diagonal")  # type: ignore[no-untyped-call]
    return z
