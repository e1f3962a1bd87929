"""Rounding to a format's grid: the power of two below a number, the nearest grid value, and steps along the grid."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from dse.numerics.formats import Format
from dse.numerics.techniques.rounding import NEAREST_EVEN, Rounding
from dse.numerics.value_formats import ValueFormat, round_to_values

_EXPONENT = {torch.float32: (torch.int32, 0x7F800000), torch.float64: (torch.int64, 0x7FF0000000000000)}


def floor_power(u: Tensor, emin: int) -> Tensor:
    """``2^max(floor(log2 |u|), emin)`` from the bits of ``u`` (float32 or float64); exact, unlike ``log2``."""
    integer, mask = _EXPONENT[u.dtype]
    least = torch.tensor(2.0**emin, dtype=u.dtype).view(integer).item()
    return (u.view(integer) & mask).clamp_min_(least).view(u.dtype)


def round_to_grid(u: Tensor, fmt: Format, rounding: Rounding = NEAREST_EVEN, bits: Tensor | None = None) -> Tensor:
    """The value of ``fmt`` that ``u`` rounds to; same shape, float32 or float64.

    Saturates at ``fmt.max`` (infinities too), keeps the sign of zero, lets NaN through. Unsigned formats hold
    magnitudes, so negative input goes to their smallest value. ``bits`` are the random integers that a stochastic
    ``rounding`` asks for. Rounding works on the lattice coordinate ``v = u / step``, exact because the step is a
    power of two; a value below ``max`` never rounds past it, because ``max`` is on the grid.
    """
    if isinstance(fmt, ValueFormat):
        return round_to_values(u, fmt, rounding, bits)
    low = -fmt.max if fmt.signed else 0.0 if fmt.subnormals else fmt.smallest
    u = u.clamp(low, fmt.max)
    step = floor_power(u, fmt.emin).mul_(2.0**-fmt.man)
    return rounding.lattice(u.div_(step), bits).mul_(step)


def shift_codes(s: Tensor, fmt: Format, codes: int) -> Tensor:
    """The grid value ``codes`` places above each positive grid value ``s`` of ``fmt``, within its positive range.

    Passes the gradient of ``s`` through. Raises ValueError for formats too fine to enumerate.
    """
    grid = _positive_grid(fmt, s.dtype, s.device)
    index = torch.searchsorted(grid, s.detach()).add_(codes).clamp_(0, len(grid) - 1)
    moved = grid[index].where(s.detach() > 0, s.detach())  # zero and NaN stay
    return moved if not s.requires_grad else s + (moved - s).detach()


@lru_cache
def _positive_grid(fmt: Format, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept on the device: a CUDA graph refuses the copy."""
    return fmt.grid[fmt.grid > 0].to(device, dtype)
