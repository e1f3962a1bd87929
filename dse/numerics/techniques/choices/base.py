"""What a block choice is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from dse.errors import OptionError, nearest
from dse.numerics.formats import Format
from dse.numerics.ops import Ops
from dse.numerics.techniques.statistics import BLOCK
from dse.numerics.tree import total

ERRORS = ("mse", "mae", "max")


class Candidate(NamedTuple):
    """One way to quantize a block: its element format, constant c, gain on X, and offset of the scale in codes.

    ``multiple``: what elements times their scale are multiplied by, so that times the choice's ``unit`` it is 1 / gain.
    """

    element: Format
    constant: float
    gain: float = 1.0
    codes: int = 0
    multiple: float = 1.0


class Choice(ABC):
    """Quantizes every block by each candidate; the first with the smallest error wins. The choice has no gradient.

    ``divides``: whether a candidate's scale is (Z / c0) * S_enc times c0 / c, with the c0 of the first candidate, as
    published, rather than Z * (S_enc / c); ``unit``: of decoded values, applied in the epilogue; ``arithmetic``: see
    ``dse.numerics.registry``.
    """

    error: str
    divides: ClassVar[bool] = False
    unit: ClassVar[float] = 1.0
    arithmetic: ClassVar[int] = 2

    @abstractmethod
    def candidates(self, element: Format, constant: float) -> tuple[Candidate, ...]:
        """The candidates in order of preference, from the quantizer's own element format and constant."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost beyond a single quantization."""


def closer(y: Tensor, best: Tensor, x: Tensor, factor: Tensor, error: str) -> Tensor:
    """Whether factor * y has a strictly smaller error against ``x`` than factor * best: bool, one per block.

    ``y``, ``best``, ``x`` [..., R/t, t, K/b, b]; ``factor`` > 0, one per block or fewer. Errors are sums of squares
    ('mse') or magnitudes ('mae') over a block, or the largest magnitude ('max'). Of the squares only the difference is
    taken, factor * sum(y^2 - best^2) < 2 sum((y - best) x), in which elements that both candidates decode alike cancel.

    In FP64, and exact, so that neither rounding nor a device's order of summation decides a tie, for FP32 operands and
    factors, E2M1 elements rounded to nearest, UE4M3 or UE5M3 scales (normal ones) within a binade of each other, and up
    to 256 elements in a block. There y and best are integers below 2^9 in units of half the smaller scale's last place,
    and x, where they differ, lies within 6 binades below the block's maximum and ends 24 bits below its own. So
    y^2 - best^2 is summed in 26 bits, times factor 50; (y - best) x in 10 + 30 + 8 = 48; factor y - x has 33 bits, and
    the sum of magnitudes 42. Elsewhere (IF4's sevenths, stochastic elements far below the maximum, long scales) it is
    rounded to about 2^-50, in the order of ``dse.numerics.tree``.
    """
    y, best, x, factor = (t.detach().double() for t in (y, best, x, factor))
    if error == "mse":
        squares = total(y.square() - best.square(), BLOCK)
        return factor * squares < 2 * total((y - best) * x, BLOCK)
    new, old = ((factor * t - x).abs() for t in (y, best))
    if error == "mae":
        return total(new - old, BLOCK) < 0
    return new.amax(BLOCK, keepdim=True) < old.amax(BLOCK, keepdim=True)


def check_error(error: str) -> None:
    """Raises OptionError for an unknown error measure."""
    if error not in ERRORS:
        raise OptionError(f"error cannot be {error!r}{nearest(error, ERRORS)}")
