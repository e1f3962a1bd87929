"""IF4: integer or floating-point elements, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dse.numerics.formats import ELEMENTS, Format
from dse.numerics.ops import Ops
from dse.numerics.techniques.choices.base import Candidate, Choice, check_error


@dataclass(frozen=True)
class IF4(Choice):
    """Each block's elements are E2M1, or INT4 with the scale's value 6 mapped to 7; the smaller error wins, a tie FP4.

    The sign bit of the UE4M3 scale, otherwise unused, says which. Both candidates have the same scale,
    s = q((Z / 6) S_enc); with u = X S_enc / s they are E2M1(u) s and 6/7 INT4(fp32(7/6) u) s: the values 7 E2M1(u) s
    and 6 INT4(fp32(7/6) u) s, exact in FP16 with UE4M3 scales, times fp32(1/7) in the epilogue. ``error``: 'mse',
    'mae' or 'max', of the decoded values, stochastically rounded ones included: then both candidates are cast with the
    same random bits, and choosing the nearer one biases the result.

    Cost: as Four Over Six.
    Source: arXiv 2603.28765 (IF4) and its library. Raises OptionError for an unknown error measure.
    """

    divides: ClassVar[bool] = True
    unit: ClassVar[float] = 1 / 7
    arithmetic: ClassVar[int] = 3

    error: str = "mse"

    def __post_init__(self) -> None:
        check_error(self.error)

    def candidates(self, element: Format, constant: float) -> tuple[Candidate, ...]:
        integer = ELEMENTS["int4"]
        gain = integer.max / element.max
        return Candidate(element, constant, multiple=7.0), Candidate(integer, constant, gain, multiple=7 / gain)

    def ops(self) -> Ops:
        return Ops(element=9, block=2, why="9/element for a second quantization and two errors, 2/block")
