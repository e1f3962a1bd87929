"""Element formats given by the list of their values, such as NF4's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.formats import Format
from dse.numerics.techniques.rounding import Rounding

MOST = 256
"""Values of a list."""


@dataclass(frozen=True)
class ValueFormat(Format):
    """A format that is a list of numbers: ``values``, increasing, 0 among them or their negatives.

    Rounding acts on the place in the list, counted from 0 outward: between two neighbors it is the first one's place
    plus the share of the way, so that nearest is the nearer one, a tie goes to the even place, and stochastic rounding
    is linear in between. Casts saturate at the first and the last value. In a list without 0 (M-ANT's) what lies
    between the innermost two goes to the one of its own sign, -0 to the negative one.
    """

    values: tuple[float, ...] = ()

    @property
    def bits(self) -> int:
        return (len(self.values) - 1).bit_length()

    @property
    def smallest(self) -> float:
        return min(abs(v) for v in self.values if v)

    @cached_property
    def even(self) -> bool:
        """Whether the negatives of the values are the values."""
        upward, downward = self.halves
        return upward == downward

    @property
    def halves(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Magnitudes of the values from 0 upward, and of those from 0 downward."""
        return tuple(v for v in self.values if v >= 0), tuple(-v for v in reversed(self.values) if v <= 0)


def value_format(values: Sequence[Any]) -> ValueFormat:
    """The format of a list of numbers, rounded to FP32; where none is negative, their negatives belong to it too.

    Raises OptionError unless they are finite, increasing, at most 256, and hold 0 and a positive one.
    """
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v) for v in values):
        raise OptionError("a list of values has finite numbers only")
    own = [float(v) + 0.0 for v in torch.tensor([float(v) for v in values], dtype=torch.float64).float().tolist()]
    if any(a >= b for a, b in pairwise(own)) or 0.0 not in own or own[-1] <= 0:
        raise OptionError("a list of values increases, and holds 0 and a positive number")
    if own[0] == 0:
        own = [-v for v in reversed(own[1:])] + own
    if len(own) > MOST:
        raise OptionError(f"a list of values has at most {MOST}, with their negatives, not {len(own)}")
    name = f"values({', '.join(f'{float(v):g}' for v in values)})"
    return ValueFormat(name, 0, 0, 0, max(own[-1], -own[0]), subnormals=False, values=tuple(own))


def value_data(fmt: ValueFormat) -> dict[str, Any]:
    """What YAML holds for a format: the values from 0 upward where their negatives are the others."""
    return {"values": list(fmt.halves[0] if fmt.even else fmt.values)}


def round_to_values(u: Tensor, fmt: ValueFormat, rounding: Rounding, bits: Tensor | None) -> Tensor:
    """The value of ``fmt`` that ``u`` rounds to; same shape and dtype. NaN and the sign of zero stay."""
    upward, downward = _halves(fmt, u.device)
    found = _on_half(u.abs(), upward, rounding, bits)
    if not fmt.even:
        found = torch.where(u < 0, _on_half(u.abs(), downward, rounding, bits), found)
    return found.to(u.dtype).copysign_(u)


def round_to_lists(u: Tensor, formats: tuple[ValueFormat, ...], chosen: Tensor, rounding: Rounding) -> Tensor:
    """``round_to_values`` of each element to a list of its own, number ``chosen`` of ``formats``; the same bits.

    The lists are even and equally long; the rounding takes no random bits. Memory for a list per element.
    """
    values = _table(formats, u.device)[chosen]
    m = u.abs().double().clamp(values[..., 0], values[..., -1])
    first = (values[..., 1:-1] <= m.unsqueeze(-1)).sum(-1, keepdim=True)
    low, high = (values.gather(-1, first + i).squeeze(-1) for i in (0, 1))
    at = rounding.lattice(first.squeeze(-1).double() + (m - low) / (high - low), None)
    found = values.gather(-1, at.nan_to_num(0.0).long().unsqueeze(-1)).squeeze(-1)
    return torch.where(m.isnan(), torch.nan, found).to(u.dtype).copysign_(u)


@lru_cache
def cuts(fmt: ValueFormat, rounding: Rounding) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The least FP32 magnitudes that a rounding without random bits takes to places 1, 2, ... of a half, or beyond.

    Of the halves upward and downward, as ``ValueFormat.halves``: what becomes a value lies between two neighbors.
    """
    upward, downward = (_cuts(torch.tensor(half, dtype=torch.float64), rounding) for half in fmt.halves)
    return upward, downward


def _cuts(values: Tensor, rounding: Rounding) -> tuple[float, ...]:
    """By bisection of the bits of floats: the place never falls where the magnitude grows."""
    if len(values) == 1:
        return ()
    places, bits = torch.arange(1, len(values)), values.abs().float().view(torch.int32)  # no -0
    high = bits[1:] + 1
    low = (bits[:1] - 1).clamp(min=0).expand_as(high)
    while (high - low).max() > 1:
        middle = low + (high - low) // 2
        first, share, _ = _way(middle.view(torch.float32), values)
        reached = rounding.lattice(first + share, None) >= places
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return tuple(high.view(torch.float32).tolist())


def neighbors(u: Tensor, fmt: ValueFormat) -> tuple[Tensor, Tensor]:
    """How far |u| is on its way from one value to the next, in [0, 1), and the distance of the two; u's dtype."""
    ways = [_way(u.abs(), half) for half in _halves(fmt, u.device)]
    _, share, gap = (torch.where(u < 0, b, a) for a, b in zip(*ways, strict=True))
    return (share - share.floor()).to(u.dtype), gap.to(u.dtype)


def _on_half(m: Tensor, values: Tensor, rounding: Rounding, bits: Tensor | None) -> Tensor:
    first, share, _ = _way(m, values)
    at = rounding.lattice(first + share, bits)
    return torch.where(m.isnan(), torch.nan, values[at.nan_to_num(0.0).long()])


def _way(m: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The place below ``m``, the share of the way to the next one, and their distance, float64."""
    m = m.double().clamp(values[0], values[-1])
    if len(values) == 1:
        return torch.zeros_like(m), torch.zeros_like(m), torch.ones_like(m)
    first = torch.searchsorted(values, m.contiguous(), right=True).sub_(1).clamp_(0, len(values) - 2)
    gap = values[first + 1] - values[first]
    return first.double(), (m - values[first]) / gap, gap


@lru_cache
def _halves(fmt: ValueFormat, device: torch.device) -> tuple[Tensor, Tensor]:
    """Kept on the device: a CUDA graph refuses the copy."""
    one, two = (torch.tensor(half, dtype=torch.float64).to(device) for half in fmt.halves)
    return one, two


@lru_cache
def _table(formats: tuple[ValueFormat, ...], device: torch.device) -> Tensor:
    """Magnitudes of even formats, float64 [formats, n]."""
    return torch.tensor([fmt.halves[0] for fmt in formats], dtype=torch.float64).to(device)
