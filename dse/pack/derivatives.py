"""The way of a gradient back through the forward quantizer of X or of W, where that is not the identity.

``g`` [E, R, K'] is float32, of X or W [E, R, K]; K' = K, or where it was computed from forward copies (``turned``), in
the rotated space and padded with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dse import fused
from dse.fused import GradientTable, RecipeTable
from dse.numerics import linear_gemms
from dse.numerics.gemm import Gemm
from dse.numerics.points import Point
from dse.numerics.quantizer import Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.rotations import Rotation


class Derivative(ABC):
    """The vector-Jacobian product of the members' forward quantizers at one point."""

    @property
    @abstractmethod
    def saves(self) -> bool:
        """Whether it needs X (or W), so that the backward pass has to keep it."""

    @abstractmethod
    def __call__(self, x: Tensor | None, g: Tensor, key: Key, columns: int, dtype: torch.dtype) -> Tensor:
        """The gradient [E, R, K], K = ``columns``, rounded once to ``dtype``; ``x``: None unless it ``saves``."""


@dataclass(frozen=True, eq=False)
class TurnedBack(Derivative):
    """Straight-through quantizers behind rotations: the rotations' inverse, in one launch."""

    table: RecipeTable

    @property
    def saves(self) -> bool:
        return False

    def __call__(self, x: Tensor | None, g: Tensor, key: Key, columns: int, dtype: torch.dtype) -> Tensor:
        return fused.turn_back(g, self.table, key.at(Point.FPROP_LHS), columns, dtype)


@dataclass(frozen=True, eq=False)
class KernelDerivative(Derivative):
    """Quantizers with constant scales, and their rotations: a launch for each step of the way."""

    point: Point
    table: GradientTable
    turned: bool

    @property
    def saves(self) -> bool:
        return True

    def __call__(self, x: Tensor | None, g: Tensor, key: Key, columns: int, dtype: torch.dtype) -> Tensor:
        assert x is not None
        return fused.vjp(x, g, self.table, key.at(self.point), self.turned, dtype)


@dataclass(frozen=True)
class ReferenceDerivative(Derivative):
    """Plain torch, for members with one quantizer and rotation."""

    point: Point
    quantizer: Quantizer
    rotation: Rotation | None
    turned: bool

    @property
    def saves(self) -> bool:
        return not self.quantizer.straight_through

    def __call__(self, x: Tensor | None, g: Tensor, key: Key, columns: int, dtype: torch.dtype) -> Tensor:
        gemm = Gemm(self.quantizer, self.quantizer, self.rotation)
        like = g[..., :columns] if x is None else x.to(torch.promote_types(x.dtype, torch.float32))
        return linear_gemms.through(gemm, self.point, like, g, self.turned, key).to(dtype)
