"""What a block choice is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from dse.errors import OptionError, nearest
from dse.formats import Format
from dse.ops import Ops
from dse.techniques.statistics import BLOCK

ERRORS = ("mse", "mae", "max")


class Candidate(NamedTuple):
    """One way to quantize a block: its element format, constant c, gain on X, and offset of the scale in codes."""

    element: Format
    constant: float
    gain: float = 1.0
    codes: int = 0


class Choice(ABC):
    """Quantizes every block by each candidate; the first with the smallest error wins. The choice has no gradient."""

    error: str

    @abstractmethod
    def candidates(self, element: Format, constant: float) -> tuple[Candidate, ...]:
        """The candidates in order of preference, from the quantizer's own element format and constant."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost beyond a single quantization."""


def block_error(y: Tensor, x: Tensor, error: str) -> Tensor:
    """Error of ``y`` against ``x`` [..., R/t, t, K/b, b] per block: 'mse' and 'mae' as sums, 'max' the largest."""
    e = (y - x).detach().double()  # so that no device's order of summation decides a tie
    if error == "mse":
        return e.square().sum(BLOCK, keepdim=True)
    return e.abs().sum(BLOCK, keepdim=True) if error == "mae" else e.abs().amax(BLOCK, keepdim=True)


def check_error(error: str) -> None:
    """Raises OptionError for an unknown error measure."""
    if error not in ERRORS:
        raise OptionError(f"error cannot be {error!r}{nearest(error, ERRORS)}")
