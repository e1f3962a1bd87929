"""The (randomized) Hadamard rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from dse.errors import OptionError, nearest
from dse.ops import Ops
from dse.random import Key
from dse.techniques.rotations.base import Rotation

_TE_SIGNS = (1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1)
"""The fixed sign vector of TransformerEngine's NVFP4 recipe, repeated along larger sizes."""
_SIGNS = ("none", "fixed", "random")


@lru_cache
def hadamard_matrix(size: int) -> Tensor:
    """Sylvester's H / sqrt(size), symmetric and orthogonal: float64 [size, size]."""
    h = torch.ones(1, 1, dtype=torch.float64)
    while h.shape[0] < size:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)], 0)
    return h / math.sqrt(size)


@dataclass(frozen=True)
class Hadamard(Rotation):
    """R = diag(S) H / sqrt(size) on every ``size`` consecutive elements of the contraction axis.

    ``signs``: 'none' (S = 1), 'fixed' (TransformerEngine's vector), 'random' (drawn per layer, GEMM and step).

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

    def matrix(self, like: Tensor, key: Key | None) -> Tensor:
        h = hadamard_matrix(self.size).to(like)
        if self.signs == "none":
            return h
        if self.signs == "fixed":
            repeats = -(-self.size // len(_TE_SIGNS))
            return h * torch.tensor((_TE_SIGNS * repeats)[: self.size]).to(like).unsqueeze(-1)
        if key is None:
            raise ValueError("random signs need a Key")
        return h * (1 - 2 * key.bits(1, self.size, 1).to(like.dtype)).mT

    def ops(self) -> Ops:
        steps = int(math.log2(self.size))
        return Ops(element=1 + steps, matrix=2 * self.size, why=f"(1 + log2 {self.size})/element as a fast transform")
