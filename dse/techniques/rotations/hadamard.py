"""The (randomized) Hadamard rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dse.errors import OptionError, nearest
from dse.ops import Ops
from dse.random import Key
from dse.techniques.rotations.base import Rotation

_TE_SIGNS = (1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1)
"""The fixed sign vector of TransformerEngine's NVFP4 recipe, repeated along larger sizes."""
TE_MINUS = sum(1 << i for i, sign in enumerate(_TE_SIGNS) if sign < 0)
"""The same as bits: 1 where the sign is negative."""
_SIGNS = ("none", "fixed", "random")


def transform(x: Tensor) -> Tensor:
    """X H on the last axis (a power of two), H Sylvester's matrix of ones: the fast Walsh-Hadamard transform.

    Butterflies (a, b) -> (a + b, a - b) of elements 1, 2, 4 ... apart, in this order, so that every device and kernel
    adds in the same order. The axis goes first meanwhile, for long runs of memory.
    """
    y = x.movedim(-1, 0).clone(memory_format=torch.contiguous_format)  # not x itself: it is written to
    stages = [1 << i for i in range(x.shape[-1].bit_length() - 1)]
    if x.requires_grad and torch.is_grad_enabled():
        for h in stages:
            a, b = y.unflatten(0, (-1, 2, h)).unbind(1)
            y = torch.stack((a + b, a - b), 1).flatten(0, 2)
        return y.movedim(0, -1)
    other = torch.empty_like(y)  # two buffers by turns: fresh ones cost three times as much
    for h in stages:
        a, b = y.unflatten(0, (-1, 2, h)).unbind(1)
        torch.add(a, b, out=other.unflatten(0, (-1, 2, h)).select(1, 0))
        torch.sub(a, b, out=other.unflatten(0, (-1, 2, h)).select(1, 1))
        y, other = other, y
    return y.movedim(0, -1)


@dataclass(frozen=True)
class Hadamard(Rotation):
    """R = diag(S) H / sqrt(size) on every ``size`` consecutive elements of the contraction axis.

    ``signs``: 'none' (S = 1), 'fixed' (TransformerEngine's vector), 'random' (drawn per layer, GEMM and step).
    The order of FP32 operations: signs, the butterflies of ``transform``, one multiplication by fp32(1 / sqrt(size)).

    Cost: 1 + log2(size) per element and operand as a fast Walsh-Hadamard transform, or 2 * size matrix-unit operations.
    Sources: arXiv 2509.17791, Sec. 6; arXiv 2502.20586 (random signs); arXiv 2509.25149 (fixed, weight gradient only).
    Raises OptionError unless size is a power of two between 2 and 1024 and signs is one of the three words.
    """

    size: int = 16
    signs: str = "random"

    def __post_init__(self) -> None:
        if not 2 <= self.size <= 1024 or self.size & self.size - 1:
            raise OptionError(f"hadamard.size must be a power of two between 2 and 1024, not {self.size}")
        if self.signs not in _SIGNS:
            raise OptionError(f"hadamard.signs cannot be {self.signs!r}{nearest(self.signs, _SIGNS)}")

    def basis(self, like: Tensor, key: Key | None) -> Tensor:
        """S: [size], or [..., size] where each member of a pack draws its own."""
        if self.signs == "none":
            return torch.ones(self.size, dtype=like.dtype, device=like.device)
        if self.signs == "fixed":  # computed on the device: an upload could not be part of a CUDA graph
            minus = TE_MINUS >> (torch.arange(self.size, device=like.device) % len(_TE_SIGNS)) & 1
        elif key is None:
            raise ValueError("random signs need a Key")
        else:
            minus = key.bits(1, self.size, 1).squeeze(-2)
        return 1 - 2 * minus.to(like.dtype)

    def turn(self, x: Tensor, basis: Tensor) -> Tensor:
        parts = x.unflatten(-1, (-1, self.size)) * basis[..., None, None, :]
        return transform(parts).mul(1 / math.sqrt(self.size)).flatten(-2)

    def back(self, x: Tensor, basis: Tensor) -> Tensor:
        parts = transform(x.unflatten(-1, (-1, self.size))).mul(1 / math.sqrt(self.size))
        return (parts * basis[..., None, None, :]).flatten(-2)

    def ops(self) -> Ops:
        steps = int(math.log2(self.size))
        return Ops(element=1 + steps, matrix=2 * self.size, why=f"(1 + log2 {self.size})/element as a fast transform")
