"""A GEMM is a b^T: blocks and rotation run along the last axis of both operands, so there are no axis arguments.

fprop Y = X W^T contracts the input features, dgrad dX = G W is (G, W^T) over the output features, wgrad dW = G^T X is
(G^T, X^T) over the tokens. The rotation belongs to the GEMM, so one that does not cancel cannot be written.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.numerics.matmul import contract
from dse.numerics.quantizer import Identity, Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.accumulations import Accumulation
from dse.numerics.techniques.rotations import Rotation

_ROTATION_POINT = 64
"""Keys of rotations: 64 + the GEMM's first quantization point, apart from every quantization point."""


def rotation_key(key: Key) -> Key:
    """The key of a GEMM's rotation, from that of its left operand."""
    return key.at(_ROTATION_POINT + key.point)


def check_widths(a: Tensor, b: Tensor) -> None:
    """Raises RuntimeError unless a [..., M, K] and b [..., N, K] have one K, which rotations would pad."""
    if a.shape[-1] != b.shape[-1]:
        raise RuntimeError(f"a product of {list(a.shape)} and {list(b.shape)}: the last axes have to be equal")


@dataclass(frozen=True)
class Gemm:
    """Numerics of one GEMM.

    ``lhs``, ``rhs``: how each operand is quantized, after ``rotation`` of the contraction axis (or none);
    ``accumulation``: how products are added up (none: plain FP32).
    """

    lhs: Quantizer = field(default_factory=Identity)
    rhs: Quantizer = field(default_factory=Identity)
    rotation: Rotation | None = None
    accumulation: Accumulation | None = None

    def basis(self, like: Tensor, key: Key) -> Tensor | None:
        """What this GEMM's rotation depends on at this step, or None; ``key`` at the left operand's point."""
        return None if self.rotation is None else self.rotation.basis(like, rotation_key(key))

    def turn(self, x: Tensor, basis: Tensor | None) -> Tensor:
        """X R, padded with zeros along the contraction axis as the rotation needs; X itself without a rotation."""
        if self.rotation is None or basis is None:
            return x
        if extra := -x.shape[-1] % self.rotation.size:
            x = pad(x, (0, extra))
        return self.rotation.turn(x, basis)

    def back(self, x: Tensor, basis: Tensor | None) -> Tensor:
        """X R^T, the inverse of ``turn`` except for its padding; X itself without a rotation."""
        return x if self.rotation is None or basis is None else self.rotation.back(x, basis)

    def operands(self, a: Tensor, b: Tensor, key: Key) -> tuple[Quantized, Quantized]:
        """a [..., M, K], b [..., N, K]; ``key`` at the point of the left operand, the right one is the next."""
        check_widths(a, b)
        r = self.basis(a, key)
        return self.lhs(self.turn(a, r), key), self.rhs(self.turn(b, r), key.at(key.point + 1))

    def __call__(self, a: Tensor, b: Tensor, key: Key) -> Tensor:
        """a b^T: [..., M, N]."""
        return self.contract(*self.operands(a, b, key))

    def contract(
        self, a: Quantized, b: Quantized, bias: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """[..., M, K] x [..., N, K] -> [..., M, N] with FP32 accumulation; tensor scales in the epilogue.

        ``bias`` and ``dtype``: those of ``dse.numerics.matmul.contract``.
        """
        return (contract if self.accumulation is None else self.accumulation.contract)(a, b, bias, dtype)
