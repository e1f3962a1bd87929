"""One of several element grids per block."""

from __future__ import annotations

from dataclasses import dataclass

from dse.errors import OptionError
from dse.numerics.formats import ELEMENTS, Format
from dse.numerics.ops import Ops
from dse.numerics.techniques.choices.base import Candidate, Choice, check_error


@dataclass(frozen=True)
class Grids(Choice):
    """Each block's elements are of the quantizer's own format or of one of ``elements``; the smallest error wins.

    A grid's largest value holds Z, the own format's constant stays: s = q((Z / c) S_enc). ``elements`` are formats, or
    lists of values; of MixFP4 {E2M1, E1M2} with INT4's values 0 ... 7 for E1M2's 0 ... 3.5, which differ in the scale
    alone; of RaZeR two lists, E2M1 with 5 or -5 for the code of -0. Earlier ones win ties. The scale's spare bits say
    which. ``error``: 'mse', 'mae' or 'max', of the decoded values.

    Cost: about 8 per element and grid. Source: arXiv 2605.31035 (MixFP4); arXiv 2501.04052 (RaZeR); arXiv 2605.12327
    (Grid Games). Raises OptionError without a grid and for an unknown error measure.
    """

    elements: tuple[Format, ...] = (ELEMENTS["int4"],)
    error: str = "mse"

    def __post_init__(self) -> None:
        check_error(self.error)
        if type(self.elements) is not tuple or not self.elements:
            raise OptionError("grids.elements must be a list of formats, with one at least")

    def candidates(self, element: Format, constant: float) -> tuple[Candidate, ...]:
        return Candidate(element, constant), *(Candidate(fmt, fmt.max) for fmt in self.elements)

    def ops(self) -> Ops:
        n = len(self.elements)
        return Ops(element=8 * n, block=4 * n, why=f"8/element and 4/block for each of {n} more grids")
