"""Launching quantizers with outlier handling: the parts of an operand, each quantized by itself, and their sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dse.fused.block_table import BlockTable
from dse.fused.launch import quantize as core_quantize
from dse.fused.rows import RecipeTable
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key
from dse.numerics.techniques.outliers import Asymmetric, Clamp, Outliers
from dse.numerics.techniques.outliers.clamp import place

_ROWS, _COLUMNS = 16, 256
"""Elements of a program."""
_LAST = 0x7FFFFFFF

Launch = Callable[[Tensor, RecipeTable | BlockTable, Key, torch.dtype], Quantized]
"""How a part is quantized."""


@dataclass(frozen=True, eq=False)
class OutlierTable:
    """Quantizers for E members that handle outliers alike.

    ``rotation``: the table of the rotation that goes before, or None; ``parts``: of the quantizers without outliers
    and rotation.
    """

    outliers: Outliers
    rotation: RecipeTable | None
    parts: RecipeTable | BlockTable


def quantize_parts(x: Tensor, table: OutlierTable, key: Key, dtype: torch.dtype, launch: Launch) -> Quantized:
    """Every member's operand under its own quantizer, after its rotation; as ``dse.fused.quantize`` says."""
    if table.rotation is not None:
        x = core_quantize(x, table.rotation, key, torch.float32).values
    across = x.stride(-1) != 1 and x.stride(-2) == 1
    y = x.mT if across else x  # as it lies
    if x.numel() == 0:
        return Quantized(torch.empty_like(x, dtype=dtype))
    asymmetric, clamp = isinstance(table.outliers, Asymmetric), table.outliers
    bounds, (one, two) = split_operand(y, clamp)
    if not asymmetric and isinstance(clamp, Clamp) and not clamp.compensate:
        return launch(one.mT if across else one, table.parts, key, dtype)
    found = [
        launch(p.mT if across else p, table.parts, key, torch.float32) for p in ((one, two) if asymmetric else (one,))
    ]
    out = _summed(y, bounds, found, asymmetric, across, dtype)
    return Quantized(out.mT if across else out)


def split_operand(x: Tensor, outliers: Outliers) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Both quantiles float32 [E, 2] where elements are clamped to them, and the parts of x [E, R, K], contiguous; where
    there is one part it comes twice.
    """
    bounds = torch.zeros(len(x), 2, device=x.device)
    if isinstance(outliers, Clamp):
        bounds = _bounds(x, outliers)
    return bounds, _split(x, bounds, isinstance(outliers, Asymmetric))


def _bounds(x: Tensor, clamp: Clamp) -> Tensor:
    """float32 [E, 2]: both quantiles of each operand x [E, R, K], found digit by digit."""
    from dse.kernels.device import outlier_parts as device

    count = x.shape[1] * x.shape[2]
    (low, _, low_share), (high, _, high_share) = (place(count, a) for a in (1 - clamp.quantile, clamp.quantile))
    shares = torch.full((2,), low_share, dtype=torch.float64, device=x.device)
    shares[1:].fill_(high_share)
    prefixes = torch.zeros(len(x), 2, dtype=torch.int32, device=x.device)
    ranks, counts = torch.zeros_like(prefixes), torch.zeros(len(x), 2, 256, dtype=torch.int32, device=x.device)
    above = torch.full_like(prefixes, _LAST)
    grid, tile = _grid(x)
    shifts = (24, 16) if x.dtype == torch.bfloat16 else (24, 16, 8, 0)
    for shift in shifts:
        device.digits_kernel[(len(x) * grid[1],)](*_source(x), prefixes, counts, *grid, SHIFT=shift, **tile)
        device.choose_kernel[(2 * len(x),)](
            prefixes, ranks, counts, low, high, SHIFT=shift, LAST_SHIFT=shifts[-1], num_warps=4
        )
    device.above_kernel[(len(x) * grid[1],)](*_source(x), prefixes, above, *grid, **tile)
    bounds = torch.empty(len(x), 2, device=x.device)
    device.bounds_kernel[(2 * len(x),)](
        prefixes, ranks, above, shares, bounds, num_warps=1, enable_fp_fusion=False
    )  # fmt: skip
    return bounds


def _split(x: Tensor, bounds: Tensor, asymmetric: bool) -> tuple[Tensor, Tensor]:
    from dse.kernels.device.outlier_parts import split_kernel

    one = torch.empty(x.shape, device=x.device)
    two = torch.empty(x.shape, device=x.device) if asymmetric else one
    grid, tile = _grid(x)
    split_kernel[(len(x) * grid[1],)](
        *_source(x), bounds, one, two, *one.stride(), *grid, ASYMMETRIC=asymmetric, **tile
    )
    return one, two


def _summed(
    x: Tensor, bounds: Tensor, parts: list[Quantized], asymmetric: bool, across: bool, dtype: torch.dtype
) -> Tensor:
    """The parts' values times their factors, and the remainder of ``x``, in x's layout."""
    from dse.kernels.device.outlier_parts import sum_parts_kernel

    values = [p.values.mT if across else p.values for p in parts]
    alphas = [bounds if p.alpha is None else p.alpha for p in parts]
    out = torch.empty(x.shape, dtype=dtype, device=x.device)
    grid, tile = _grid(x)
    sum_parts_kernel[(len(x) * grid[1],)](
        *_source(x), bounds, values[0], values[-1], *values[0].stride(), alphas[0], alphas[-1], out, *out.stride(),
        *grid, ASYMMETRIC=asymmetric, SCALED=parts[0].alpha is not None, enable_fp_fusion=False, **tile,
    )  # fmt: skip
    return out


def _source(x: Tensor) -> tuple[Any, ...]:
    """x, its strides and its sizes."""
    return x, *x.stride(), *x.shape[1:]


def _grid(x: Tensor) -> tuple[tuple[int, int], dict[str, int]]:
    """Programs side by side and in all, of one operand; the tile of each."""
    beside = -(-x.shape[2] // _COLUMNS)
    return (beside, -(-x.shape[1] // _ROWS) * beside), {"BR": _ROWS, "BK": _COLUMNS, "num_warps": 8}
