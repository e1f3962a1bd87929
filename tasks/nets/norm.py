"""RMSNorm as torch has it, by one kernel on a GPU."""

from __future__ import annotations

from torch import Tensor, nn

from dse.tasks.nets import fused
from dse.tasks.nets.fused.norm import WIDEST, add_norm, rms_norm


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean x² + eps) times a learned weight, over the last axis of x [..., width]."""

    def __init__(self, width: int, eps: float = 1e-6, elementwise_affine: bool = True) -> None:
        super().__init__(width, eps=eps, elementwise_affine=elementwise_affine)
        self._width, self._eps = width, eps

    def forward(self, x: Tensor) -> Tensor:
        if self._fused(x):
            return rms_norm(x, self.weight, self._eps)
        return super().forward(x)

    def add(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The residual stream x + y, and its norm."""
        if self._fused(x, y):
            return add_norm(x, y, self.weight, self._eps)
        x = x + y
        return x, super().forward(x)

    def _fused(self, *operands: Tensor) -> bool:
        return fused.usable(*operands) and self._width <= WIDEST
