"""Four over six."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dse.numerics.formats import Format
from dse.numerics.ops import Ops
from dse.numerics.techniques.choices.base import Candidate, Choice, check_error


@dataclass(frozen=True)
class FourOverSix(Choice):
    """Maps a block's Z to 6 or to 4, whichever has the smaller error; a tie goes to 6.

    With 4 the coarse step between 4 and 6 is not used. The tensor scale needs headroom of 1.5 in the scale format:
    target 256 with UE4M3. ``error``: 'mse', 'mae' or 'max'. The scale for 6 is q((Z / 6) S_enc), for 4
    q(1.5 (Z / 6) S_enc), in this order of FP32 operations, which is TransformerEngine's and the authors' own. Errors
    are compared exactly (``closer``), where both of these round them to FP32.

    Cost: a second quantization and the errors, about 8 per element.
    Source: arXiv 2512.02010 (Four Over Six) and its library; TransformerEngine, reference_nvfp4.
    Raises OptionError for an unknown error measure.
    """

    divides: ClassVar[bool] = True

    error: str = "mse"

    def __post_init__(self) -> None:
        check_error(self.error)

    def candidates(self, element: Format, constant: float) -> tuple[Candidate, ...]:
        return Candidate(element, constant), Candidate(element, constant * 4 / 6)

    def ops(self) -> Ops:
        return Ops(element=8, block=4, why="8/element for a second quantization and two errors, 4/block")
