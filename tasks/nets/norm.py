"""RMSNorm and LayerNorm as torch has them, in FP32 inside; one kernel on a GPU."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dse.tasks.nets import fused
from dse.tasks.nets.fused.norm import WIDEST, Norming, add_norms, norms, rms_norm
from dse.tasks.nets.masters import Masters, wide, wide_or_none


class _ResidualNorm(Masters, nn.Module):
    """Base of a norm over the last axis, which on a GPU one kernel computes with the residual sum before it."""

    weight: nn.Parameter

    def add(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """The residual stream x + y, and its norm; x itself where no y is to be added."""
        if self._fused(x, y):
            total, (z,) = self._kernel(x, y, 1)
            return total, z
        x = x if y is None else x + y
        return x, self(x)

    def fan(self, x: Tensor, y: Tensor | None, uses: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same with the norm once for each of its readers, so that the kernel can sum their gradients."""
        if self._fused(x, y):
            return self._kernel(x, y, uses)
        x, z = self.add(x, y)
        return x, (z,) * uses

    def _kernel(self, x: Tensor, y: Tensor | None, uses: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        how = self._norming(uses)
        return (x, norms(x, self.weight, how)) if y is None else add_norms(x, y, self.weight, how)

    @abstractmethod
    def _fused(self, *operands: Tensor | None) -> bool:
        """Whether the kernel computes the norm of these operands."""

    @abstractmethod
    def _norming(self, uses: int) -> Norming:
        """How the kernel is to compute it."""


class RMSNorm(_ResidualNorm, nn.RMSNorm):
    """x / sqrt(mean x² + eps) times a learned weight, over the last axis of x [..., width], in the dtype of x."""

    def __init__(self, width: int, eps: float = 1e-6, elementwise_affine: bool = True) -> None:
        super().__init__(width, eps=eps, elementwise_affine=elementwise_affine)
        self._width, self._eps = width, eps

    def forward(self, x: Tensor) -> Tensor:
        if self._fused(x):
            return rms_norm(x, self.weight, self._eps)
        return F.rms_norm(wide(x), self.normalized_shape, wide_or_none(self.weight), self._eps).to(x.dtype)

    def _fused(self, *operands: Tensor | None) -> bool:
        return fused.usable(*(x for x in operands if x is not None)) and self._width <= WIDEST

    def _norming(self, uses: int) -> Norming:
        return Norming(self._eps, uses=uses)


class LayerNorm(_ResidualNorm, nn.LayerNorm):
    """(x - mean) / sqrt(variance + eps) times a learned weight, over the last axis of x, in the dtype of x.

    On a GPU BF16 is normalized by the kernel, and FP32 by torch's.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self._fused(x):
            return rms_norm(x, self.weight, self.eps, center=True)
        weight, bias = wide_or_none(self.weight), wide_or_none(self.bias)
        return F.layer_norm(wide(x), self.normalized_shape, weight, bias, self.eps).to(x.dtype)

    def _fused(self, *operands: Tensor | None) -> bool:
        present = [x for x in operands if x is not None]
        one_axis = len(self.normalized_shape) == 1 and self.normalized_shape[0] <= WIDEST
        narrow = all(x.dtype != torch.float32 for x in present)
        return narrow and one_axis and self.bias is None and fused.usable(*present)

    def _norming(self, uses: int) -> Norming:
        return Norming(self.eps, center=True, uses=uses)
