"""What a low-rank branch is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.ops import Ops
from dse.numerics.quantizer import Quantized

FACTOR_BITS = 16
"""Factors are kept in BF16."""


class ThinFactors(NamedTuple):
    """L = up down, with BF16 values: ``up`` [N, r], ``down`` [r, K]."""

    up: Tensor
    down: Tensor

    @classmethod
    def of(cls, left: Tensor, right: Tensor) -> ThinFactors:
        """Factors [N, r] and [r, K], rounded to BF16."""
        return cls(*(t.to(torch.bfloat16).float().contiguous() for t in (left, right)))

    def whole(self, like: Tensor) -> Tensor:
        """L [N, K] in the dtype of ``like``."""
        return self.up.to(like) @ self.down.to(like)


class Branch(ABC):
    """Y = f(X) f(R)^T + BF16(X) (up down)^T: part of W by two thin products in BF16, the rest quantized.

    X is balanced and rotated, as f(X) is. ``rank``: r, cut to the smaller side of W.
    ``arithmetic``: see ``dse.numerics.registry``.
    """

    rank: int
    arithmetic: ClassVar[int] = 1

    @property
    def data(self) -> bool:
        """Whether the branch looks at X."""
        return False

    @abstractmethod
    def split(
        self, w: Tensor, inputs: InputStatistics | None, quantize: Callable[[Tensor], Quantized]
    ) -> tuple[Quantized, ThinFactors]:
        """The quantized operand and the branch, for W [N, K]; ``quantize``: the method's rounding of such a matrix."""

    def quantized(self, w: Tensor, low_rank: ThinFactors) -> Tensor:
        """What of W [N, K] is quantized beside the branch."""
        return w

    def ops(self) -> Ops:
        return Ops(output=1, why="1/output to add the branch, beside its two products")

    def flop(self, tokens: int, inputs: int, outputs: int) -> float:
        """Of the two thin products for X [M, K] and Y [M, N]."""
        return 2.0 * tokens * self.rank * (inputs + outputs)

    def bits(self, outputs: int, inputs: int) -> int:
        """Of both factors for W [N, K]."""
        return FACTOR_BITS * min(self.rank, outputs, inputs) * (outputs + inputs)


def check_rank(name: str, rank: int) -> None:
    """Raises OptionError unless the rank is at least 1."""
    if rank < 1:
        raise OptionError(f"{name}.rank must be at least 1, not {rank}")


def truncated(w: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors [N, r] and [r, K], float64, of the best approximation of W [N, K] of a rank."""
    u, s, v = torch.linalg.svd(w.double(), full_matrices=False)
    return u[:, :rank] * s[:rank], v[:rank]
