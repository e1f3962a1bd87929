"""The one non-differentiable node: forward rounds to a format's grid, backward multiplies by a local slope.

Everything else in the mathematics is ordinary differentiable torch, so autograd gives the exact vector-Jacobian
product through scale, statistic and tensor scale (arXiv 2509.17791, Sec. 2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dse.numerics.formats import Format
from dse.numerics.grid import round_to_grid
from dse.numerics.techniques.rounding import NEAREST_EVEN, Rounding
from dse.numerics.techniques.slopes import STRAIGHT_THROUGH, Slope


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
