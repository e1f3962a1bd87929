"""The one non-differentiable node: forward rounds to a format's grid, backward multiplies by a local slope.

Everything else in the mathematics is ordinary differentiable torch, so autograd gives the exact vector-Jacobian
product through scale, statistic and tensor scale (design-space notes 2.3).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dse.formats import Format
from dse.techniques.rounding import NEAREST_EVEN, Rounding
from dse.techniques.slopes import STRAIGHT_THROUGH, Slope

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


class _Cast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, fmt: Format, rounding: Rounding, slope: Slope, bits: Tensor | None) -> Tensor:
        ctx.fmt, ctx.slope = fmt, slope
        ctx.save_for_backward(u)
        return round_to_grid(u, fmt, rounding, bits)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (u,) = ctx.saved_tensors
        return grads[0] * ctx.slope(u, ctx.fmt), None, None, None, None


def cast(
    u: Tensor,
    fmt: Format,
    rounding: Rounding = NEAREST_EVEN,
    slope: Slope = STRAIGHT_THROUGH,
    bits: Tensor | None = None,
) -> Tensor:
    """Q(u) forward, g * Q'(u) backward.

    ``u``: any shape, float32 or float64. ``slope``: the local stand-in for Q', evaluated at ``u``.
    Source: framework of arXiv 2509.17791, Sec. 2.
    """
    if not (u.requires_grad and torch.is_grad_enabled()):
        return round_to_grid(u, fmt, rounding, bits)
    return _Cast.apply(u, fmt, rounding, slope, bits)  # type: ignore[no-untyped-call, no-any-return]
