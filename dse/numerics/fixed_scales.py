"""A weight's grid once its block scales are fixed: what methods that round column by column round to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.block_trace import BlockTrace
from dse.numerics.block_vjp import with_gain
from dse.numerics.formats import Format
from dse.numerics.grid import round_to_grid
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key
from dse.numerics.techniques.rounding import Rounding
from dse.numerics.value_formats import ValueFormat, round_to_lists


@dataclass(frozen=True, eq=False)
class FixedScales:
    """Scales of a matrix W [N, K] as factors of each element: values are Q(W * encode) * decode * outer, times alpha.

    - ``encode``, ``decode``: of W's dtype [N, K]; ``outer``: tensor scales of groups of blocks [N, K], or None;
    - ``alpha``: the factor of the whole matrix [1, 1], or None;
    - ``elements``: element formats; ``chosen``: the number of each element's format, int64 [N, K];
    - ``rounding``: of the elements, without random bits.
    """

    encode: Tensor
    decode: Tensor
    outer: Tensor | None
    alpha: Tensor | None
    elements: tuple[Format, ...]
    chosen: Tensor
    rounding: Rounding

    @classmethod
    def of(cls, quantizer: BlockQuantizer, w: Tensor, key: Key | None = None) -> FixedScales:
        """The scales that a quantizer gives W [N, K]; then ``round(w)`` is what it makes of W, bit for bit."""
        return cls.traced(quantizer, quantizer.trace(w, key))

    @classmethod
    def traced(cls, quantizer: BlockQuantizer, trace: BlockTrace) -> FixedScales:
        """The scales of a block quantization that has been made."""
        gains, multiples = (
            torch.tensor([getattr(how, name) for how in trace.candidates], dtype=trace.values.dtype)
            for name in ("gain", "multiple")
        )
        chosen, factors = trace.chosen, trace.factors
        gains, multiples = gains.to(chosen.device)[chosen], multiples.to(chosen.device)[chosen]
        grouped = factors.alpha is not None and factors.alpha.shape[-4:] != (1, 1, 1, 1)
        return cls(
            trace.matrix(with_gain(factors.encode, quantizer.gain) * gains),
            trace.matrix(factors.decode * multiples),
            trace.matrix(factors.alpha) if grouped and factors.alpha is not None else None,
            trace.quantized.alpha,
            tuple(how.element for how in trace.candidates),
            trace.matrix(chosen),
            quantizer.rounding,
        )

    def where(self, mask: Tensor, other: FixedScales) -> FixedScales:
        """Those of ``other`` where the mask [N, K] says so; both have the same tensor scales and formats."""
        return FixedScales(
            torch.where(mask, other.encode, self.encode),
            torch.where(mask, other.decode, self.decode),
            self.outer,
            self.alpha,
            self.elements,
            torch.where(mask, other.chosen, self.chosen),
            self.rounding,
        )

    @cached_property
    def _lists(self) -> tuple[tuple[ValueFormat, ...], Tensor]:
        """The formats that are even lists as long as the longest, and the place of each of ``elements`` there, or 0."""
        even = [fmt for fmt in self.elements if isinstance(fmt, ValueFormat) and fmt.even]
        length = max((len(fmt.values) for fmt in even), default=0)
        lists = tuple(dict.fromkeys(fmt for fmt in even if len(fmt.values) == length))
        places = [lists.index(fmt) if fmt in lists else 0 for fmt in self.elements]
        return lists, torch.tensor(places, device=self.chosen.device)

    def column(self, w: Tensor, j: int) -> Tensor:
        """Values of column number j, from w [N]."""
        return self._rounded(w, (slice(None), j))

    def round(self, w: Tensor) -> Quantized:
        """W [N, K], each element rounded to its grid."""
        return Quantized(self._rounded(w, (slice(None), slice(None))), self.alpha)

    def _rounded(self, w: Tensor, part: tuple[slice, slice | int]) -> Tensor:
        u, chosen = w * self.encode[part].to(w.dtype), self.chosen[part]
        formats = list(dict.fromkeys(self.elements))
        lists, places = self._lists
        if u.dim() == 1 and len(lists) > 1:
            q = round_to_lists(u, lists, places[chosen], self.rounding)
            formats = [fmt for fmt in formats if fmt not in lists]
        else:
            q = round_to_grid(u, formats.pop(0), self.rounding, None)
        for fmt in formats:
            own = [number for number, element in enumerate(self.elements) if element == fmt]
            mask = chosen == own[0] if len(own) == 1 else torch.isin(chosen, torch.tensor(own, device=chosen.device))
            q = torch.where(mask, round_to_grid(u, fmt, self.rounding, None), q)
        values = q * self.decode[part].to(w.dtype)
        return values if self.outer is None else values * self.outer[part].to(w.dtype)


__all__ = ["FixedScales"]
