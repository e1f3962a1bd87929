"""The tensor scale from the operand at hand."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dse.errors import OptionError
from dse.numerics.ops import FREE, Ops
from dse.numerics.random import Key
from dse.numerics.techniques.tensor_scales.base import TensorScale


def check_target(target: float | None) -> None:
    """Raises OptionError unless T is None, or positive and finite."""
    if target is not None and not 0 < target < float("inf"):
        raise OptionError(f"the tensor scale's target must be positive and finite, not {target}")


@dataclass(frozen=True)
class Current(TensorScale):
    """g = max |X| over the operand.

    ``target`` is T (None: the scale format's largest value; 448 for UE4M3 gives NVFP4's S_enc = 448 * 6 / g; 1 for
    formats with FP32's 8 exponent bits, whose largest value times 6 does not exist).
    ``through`` is the gradient through g: 'ignore' (a constant) or 'exact' (to the operand's first largest element).

    Cost: a max over block maxima, one multiplication per GEMM output, and, what matters in hardware, a second read of
    the operand behind a grid-wide dependency; 3 per element backward when exact.
    Source: arXiv 2509.25149 (NVFP4); arXiv 2509.17791, Sec. 3; arXiv 2609.02846 for T.
    Raises OptionError unless T > 0 and ``through`` is one of the two words.
    """

    target: float | None = None
    through: str = "ignore"

    def __post_init__(self) -> None:
        check_target(self.target)
        if self.through not in ("ignore", "exact"):
            raise OptionError(f"tensor_scale.through must be 'ignore' or 'exact', not {self.through!r}")

    @property
    def gradient(self) -> str:
        return self.through

    def reference(self, peak: Tensor, key: Key | None) -> Tensor:
        return peak.amax((-4, -2), keepdim=True)

    def ops(self) -> Ops:
        return Ops(block=1, output=0.5, reads=1, syncs=1, why="max of block maxima 1/block, 1/output for the pair")

    def slope_ops(self) -> Ops:
        return FREE if self.through == "ignore" else Ops(element=3, why="3/element for a sum over the tensor")
