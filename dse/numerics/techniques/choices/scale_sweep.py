"""Scale search around the abs-max scale."""

from __future__ import annotations

from dataclasses import dataclass

from dse.errors import OptionError
from dse.numerics.formats import Format
from dse.numerics.ops import Ops
from dse.numerics.techniques.choices.base import Candidate, Choice, check_error


@dataclass(frozen=True)
class ScaleSweep(Choice):
    """Tries the scale codes from ``low`` to ``high`` around the rounded scale, and keeps the smallest error.

    The published base is the scale rounded down (set ``scale_rounding: toward_zero``), with codes -3 to +7.
    ``error``: 'mse', 'mae' or 'max'.

    Cost: about 8 per element and code. Source: arXiv 2606.07618 (ScaleSweep).
    Raises OptionError unless low <= 0 <= high and the error measure is known.
    """

    low: int = -3
    high: int = 7
    error: str = "mse"

    def __post_init__(self) -> None:
        check_error(self.error)
        if not self.low <= 0 <= self.high:
            raise OptionError(f"scale_sweep needs low <= 0 <= high, not {self.low} and {self.high}")

    def candidates(self, element: Format, constant: float) -> tuple[Candidate, ...]:
        order = sorted(range(self.low, self.high + 1), key=abs)
        return tuple(Candidate(element, constant, codes=k) for k in order)

    def ops(self) -> Ops:
        n = self.high - self.low
        return Ops(element=8 * n, block=2 * n, why=f"8/element and 2/block for each of {n} more codes")
