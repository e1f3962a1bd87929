"""What a quantizer is, and the two without a scale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dse.kernels.factors import SumFactors
from dse.numerics.ops import FREE, Ops
from dse.numerics.random import Key


class Quantized(NamedTuple):
    """A quantized GEMM operand: its decoded values, and the factors that the GEMM applies to sums.

    ``values`` [..., R, K] are element times block scale, exact in BF16 for E2M1 with E8M0, UE4M3 and UE5M3 scales.
    ``alpha`` [..., 1, 1] is the FP32 tensor scale, or None; folding it into the values would make them inexact.
    ``factors``: scales of rows or of groups of K that kernels keep out of the values, or None. The plain-torch
    quantizers have none: what differs along K is in their values, rounded to FP32, and their products say what those
    of factors approximate, to within the rounding of a product's sums.
    """

    values: Tensor
    alpha: Tensor | None = None
    factors: SumFactors | None = None

    def dequantize(self) -> Tensor:
        """f(X), shape [..., R, K]."""
        values = self.folded().values
        return values if self.alpha is None else values * self.alpha

    def folded(self) -> Quantized:
        """The same with its factors in the values, which are FP32 where there are any."""
        return self if self.factors is None else Quantized(self.factors.times(self.values), self.alpha)


class Quantizer(ABC):
    """f(X), applied to one operand of a GEMM whose contraction axis is the last."""

    @property
    def straight_through(self) -> bool:
        """True when the vector-Jacobian product of f is the identity, so that the backward pass can skip it."""
        return True

    @property
    def random_bits(self) -> int:
        """Random bits per element."""
        return 0

    @property
    def remembers(self) -> bool:
        """True when a value is held between steps, in the layer's memory."""
        return False

    @abstractmethod
    def __call__(self, x: Tensor, key: Key | None = None) -> Quantized:
        """``x`` [..., R, K] float32 or float64; leading axes are members of a pack."""

    def dequantized(self, x: Tensor, key: Key | None = None) -> Tensor:
        """f(x) as one tensor, for analysis; differentiable."""
        return self(x, key).dequantize()

    def vjp(self, x: Tensor, g: Tensor, key: Key | None = None) -> Tensor:
        """g^T df/dx, recomputing f: all tensors [..., R, K]."""
        if self.straight_through:
            return g
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(self.dequantized(leaf, key), leaf, g)[0]

    @abstractmethod
    def ops(self) -> tuple[tuple[str, Ops], ...]:
        """(technique, operation count) for every technique at work."""

    def vjp_ops(self) -> tuple[tuple[str, Ops], ...]:
        """(technique, operation count) of the vector-Jacobian product.

        Counted where it is taken: at the forward GEMM's two points, once each, in the backward pass.
        """
        return ()

    def block_shape(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns that share one scale in an operand [rows, columns]."""
        return 1, 1


@dataclass(frozen=True)
class Identity(Quantizer):
    """f(X) = X: the operand stays in the compute precision (FP32 in emulation). Cost: none counted."""

    def __call__(self, x: Tensor, key: Key | None = None) -> Quantized:
        return Quantized(x)

    def ops(self) -> tuple[tuple[str, Ops], ...]:
        return ()


@dataclass(frozen=True)
class BFloat16(Quantizer):
    """f(X) = BF16(X), nearest-even: the operand of an ordinary mixed-precision GEMM. Overflow goes to infinity.

    Cost: none counted; it is the baseline that overheads are measured against.
    """

    def __call__(self, x: Tensor, key: Key | None = None) -> Quantized:
        rounded = x.detach().to(torch.bfloat16).to(x.dtype)
        return Quantized(rounded if not x.requires_grad else rounded + (x - x.detach()))

    def ops(self) -> tuple[tuple[str, Ops], ...]:
        return (("bf16 cast", FREE),)
