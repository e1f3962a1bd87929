"""Quantized operands that several linears share: queries, keys and values take one X, gate and up another."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from dse.numerics.quantizer import Quantized
from dse.pack.operand_programs import TwoOperands


class Both(NamedTuple):
    """An operand as a forward GEMM takes X, and its transposed one where the backward pass will need it."""

    first: Quantized
    second: Quantized | None


class _Last(NamedTuple):
    x: Tensor
    version: int
    programs: TwoOperands
    both: Both


class SharedOperands:
    """The last X that each group of members has quantized in a forward pass, and what became of it.

    A linear that takes the very same tensor by the same programs gets the same operands, and saves the same memory for
    its backward pass. X is held as long as its operands are, so that no other tensor takes its address. In a CUDA graph
    all of this is decided while it is captured.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[int, int], _Last] = {}

    def clear(self) -> None:
        """Forgets them: at the end of a forward pass, before memory is given to other tensors."""
        self._last.clear()

    def take(self, members: slice, x: Tensor, programs: TwoOperands, both: bool, compute: Callable[[], Both]) -> Both:
        """The operands of ``x`` of some members, from ``compute`` where nobody has them; ``both``: as it has to be."""
        if not programs.repeats or x.is_inference():
            return compute()
        at = (members.start, members.stop)
        last = self._last.get(at)
        if (
            last is None
            or not (_same(last, x) and last.programs.matches(programs))
            or (both and last.both.second is None)
        ):
            last = self._last[at] = _Last(x, x._version, programs, compute())
        return last.both


def _same(last: _Last, x: Tensor) -> bool:
    """Whether ``x`` is the tensor that was quantized last, unchanged."""
    y = last.x
    return (x.data_ptr(), x.shape, x.stride(), x.dtype) == (
        y.data_ptr(),
        y.shape,
        y.stride(),
        y.dtype,
    ) and x._version == last.version
