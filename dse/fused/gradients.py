"""Gradients through the forward quantizers of X and W: which the kernels compute, their tables and their launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from dse.fused.block_launch import block_tile, operand_levels
from dse.fused.block_numbers import short
from dse.fused.block_table import BlockTable, block_table
from dse.fused.checked import unchecked
from dse.fused.device_code import ERRORS, SLOPES, candidates, statistic_code
from dse.fused.launch import quantize as core_quantize
from dse.fused.long_launch import LongBlocks, chosen_factors, factors_as_chosen
from dse.fused.outlier_launch import split_operand
from dse.fused.support import Use, uncovered
from dse.fused.turn_back import turn_back
from dse.kernels.availability import interpreted
from dse.numerics.block import BlockQuantizer
from dse.numerics.random import Key
from dse.numerics.techniques.outliers import Asymmetric, Clamp, Outliers
from dse.numerics.techniques.slopes import Slope, Spline
from dse.numerics.techniques.slopes.spline import spline_slopes
from dse.numerics.techniques.tensor_scales import Outer
from dse.numerics.value_formats import ValueFormat

FITS = 4096
"""Elements of the largest block that a program holds together with its gradient."""
_SMOOTH = (2, 3, 4)
"""Numbers of the slopes that look where in its interval of the grid an element lies."""
_GAIN, _OWN_GAIN = 7, 11
"""Columns of a block table's floats: the gain that factors get, and the one that the gradients' kernel applies."""


@dataclass(frozen=True, eq=False)
class GradientTable:
    """The quantizers of one operand of E members, for gradients.

    ``blocks``: the table of their blocks and rotation, ``raw``: the same for encode factors without the gain; ``kinds``
    int32 [E], ``numbers`` float32 [E, C, 8], ``spline`` float32 [E, C, S]: see dse.kernels.device.slopes; ``smooth``,
    ``splines``: whether there are slopes of exp and log, or of a table; ``outliers``: how all handle them.
    """

    blocks: BlockTable
    raw: BlockTable
    kinds: Tensor
    numbers: Tensor
    spline: Tensor
    smooth: bool
    splines: bool
    outliers: Outliers | None


def gradient_structure(use: Use) -> str:
    """What the gradients' kernel is compiled for; members of one launch agree in it. '': plain torch's affair."""
    q = use.quantizer
    if uncovered_gradient(use) or not isinstance(q, BlockQuantizer):
        return ""
    parts = {
        "rotation": use.rotation and getattr(use.rotation, "size", use.rotation),
        "tile": q.tile,
        "block": q.block,
        "statistic": statistic_code(q).value.removesuffix("_value"),
        "choice": q.choice and f"{q.choice.error} of {len(candidates(q))}",
        "outer": getattr(q.tensor_scale, "blocks", None),
        "outliers": q.outliers,
        "elements": "listed" if isinstance(q.element, ValueFormat) else None,
    }
    return "gradient, " + ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None)


def uncovered_gradient(use: Use) -> str:
    """'' when the kernel computes the gradient through this operand's quantizer, else the reason in words."""
    q = use.quantizer
    if type(q) is not BlockQuantizer:
        return f"quantizer {type(q).__name__}"
    if not q.constant_scales:
        return "a gradient through the scale"
    if q.micro_exponents:
        return "a gradient through micro-exponents"
    if type(q.slope) not in SLOPES:
        return f"slope {type(q.slope).__name__}"
    smooth = SLOPES[type(q.slope)](q.slope).kind in _SMOOTH
    if (smooth or q.choice is not None) and not all(short(how.element) for how in candidates(q)):
        return f"slope of elements {q.element.name}"
    return uncovered(use) or unchecked("derivatives")


def gradient_table(uses: Sequence[Use], device: torch.device | str) -> GradientTable:
    """The table of uses that agree in the shape of their blocks, statistic and choice, and are all covered."""
    quantizers = [use.quantizer for use in uses if isinstance(use.quantizer, BlockQuantizer)]
    outliers = quantizers[0].outliers
    blocks = block_table(
        [Use(replace(q, outliers=None), use.rotation) for q, use in zip(quantizers, uses, strict=True)], device
    )
    own = blocks.floats.clone()
    own[:, _OWN_GAIN], own[:, _GAIN] = own[:, _GAIN], 1.0
    kinds = [SLOPES[type(q.slope)](q.slope).kind for q in quantizers]
    places = max([q.slope.points - 1 for q in quantizers if isinstance(q.slope, Spline)], default=1)
    numbers = [[_numbers(q.slope, how.element.max, how.element.signed) for how in candidates(q)] for q in quantizers]
    spline = torch.zeros(len(quantizers), len(numbers[0]), places)
    for i, q in enumerate(quantizers):
        if isinstance(q.slope, Spline):
            for n, how in enumerate(candidates(q)):
                found = spline_slopes(how.element, q.slope.points, torch.float32, torch.device("cpu"))
                spline[i, n, : len(found)] = found
    return GradientTable(
        blocks,
        replace(blocks, floats=own),
        torch.tensor(kinds, dtype=torch.int32).to(device),
        torch.tensor(numbers, dtype=torch.float64).float().to(device),
        spline.to(device),
        any(kind in _SMOOTH for kind in kinds),
        any(kind == 5 for kind in kinds),
        outliers,
    )


def _numbers(slope: Slope, largest: float, signed: bool) -> list[float]:
    """Bounds, the value beyond the range, the technique's two, and the spline's first point, scale and last part."""
    code = SLOPES[type(slope)](slope)
    lower, upper = getattr(slope, "lower", 1.0), getattr(slope, "upper", 1.0)
    beyond = float(getattr(slope, "outside", "pass") == "pass")
    low = -largest if signed else 0.0
    parts = getattr(slope, "points", 2) - 1
    return [lower, upper, beyond, code.first, code.second, low, parts / (largest - low), float(parts - 1)]


def vjp(
    x: Tensor, g: Tensor, table: GradientTable, key: Key, turned: bool = False, dtype: torch.dtype = torch.float32
) -> Tensor:
    """g^T df/dx of every member's quantizer f, through its GEMM's rotation: as ``dse.numerics.linear_gemms.through``.

    ``x`` [E, R, K] float32 or bfloat16; ``g`` [E, R, K], or where it is ``turned`` already [E, R, K'], K' = K padded to
    the rotation; ``key``: at the operand's quantization point. -> [E, R, K] in ``dtype``.
    """
    rotation, columns = table.blocks.rotation, x.shape[-1]
    if rotation is None:
        return _through_parts(x, g, table, key, dtype)
    x = core_quantize(x, rotation, key, torch.float32).values
    g = g if turned else core_quantize(g, rotation, key, torch.float32).values
    return turn_back(_through_parts(x, g, table, key, torch.float32), rotation, key, columns, dtype)


def _through_parts(x: Tensor, g: Tensor, table: GradientTable, key: Key, dtype: torch.dtype) -> Tensor:
    """Without rotation: of the parts that outlier handling splits x into, in the order of ``Outliers.joined``."""
    outliers = table.outliers
    if outliers is None or x.numel() == 0:
        return _gradients(x, g, table, key, dtype)
    bounds, parts = split_operand(x, outliers)
    if isinstance(outliers, Asymmetric):
        one, two = (_gradients(part, g, table, key, torch.float32) for part in parts)
        negative = x < 0
        return (torch.where(negative, 0.0, one) + torch.where(negative, two, 0.0)).to(dtype)
    low, high = bounds[:, None, None].unbind(-1)
    kept = ~((x < low) | (x > high)) | x.isinf()
    one = _gradients(parts[0], g, table, key, torch.float32)
    if isinstance(outliers, Clamp) and not outliers.compensate:
        return torch.where(kept, one, 0.0).add_(0.0).to(dtype)
    return (g + torch.where(kept, one - g, 0.0).add_(0.0)).to(dtype)


def _gradients(x: Tensor, g: Tensor, table: GradientTable, key: Key, dtype: torch.dtype) -> Tensor:
    """Without rotation: x and g [E, R, K]."""
    members, rows, columns = x.shape
    out = torch.empty(members, rows, columns, dtype=dtype, device=x.device)
    if x.numel() == 0:
        return out

    operand = LongBlocks(x, table.blocks, key, *table.blocks.quantizer.block_shape(rows, columns))
    levels, alphas = table.raw.floats, table.blocks.alpha
    if table.blocks.measured:
        levels, alphas = operand_levels(x, table.blocks, key)
    alphas = torch.ones(members, device=x.device) if alphas is None else alphas
    (_whole if _fits(operand) else _long)(operand, g, out, table, (levels, alphas))
    return out


def _outer(operand: LongBlocks) -> int:
    """Blocks under one outer scale, of those that there are."""
    scale = operand.table.quantizer.tensor_scale
    return min(scale.blocks or operand.blocks, operand.blocks) if isinstance(scale, Outer) else 1


def _fits(operand: LongBlocks) -> bool:
    """Whether a program holds a block, padded, or all under one outer scale."""
    sizes = (1 << max(n - 1, 0).bit_length() for n in (operand.height, operand.width, _outer(operand)))
    return prod(sizes) <= FITS


def _whole(operand: LongBlocks, g: Tensor, out: Tensor, table: GradientTable, scales: tuple[Tensor, Tensor]) -> None:
    """In one pass; ``scales``: the operands' g and the epilogue's alpha."""
    from dse.kernels.device import statistics
    from dse.kernels.device.block_gradients import gradients_kernel

    q, raw, code, group = table.raw.quantizer, table.raw, statistic_code(table.raw.quantizer), _outer(operand)
    tile = block_tile(operand.height, operand.width, group, (operand.tiles, operand.blocks), across=False)
    groups = -(-operand.blocks // group)
    grid_r, grid_k = -(-operand.tiles // tile.rows), -(-groups // (tile.columns // tile.group))
    clock, key = operand.key.clock, operand.key
    gradients_kernel[(len(out) * grid_r * grid_k,)](
        *operand.source, g, *g.stride(), out, *out.stride(), clock, *clock.stride(), key.layer, int(key.point),
        raw.ints, raw.floats, raw.candidate_ints, raw.candidate_floats, *scales,
        table.kinds, table.numbers, table.spline, table.spline.shape[-1], operand.tiles, operand.blocks,
        grid_k, grid_r * grid_k, t=operand.height, b=operand.width, group=group,
        NR=tile.rows, T=tile.height, NB=tile.columns, B=tile.width, GROUP=tile.group,
        OUTER=isinstance(q.tensor_scale, Outer), LEVELS=raw.measured, TERMS=getattr(statistics, code.terms),
        VALUE=getattr(statistics, code.value), SUMS=code.sums, CANDIDATES=len(candidates(q)),
        ERROR=0 if q.choice is None else ERRORS[q.choice.error], CODES=raw.codes, RANDOM=raw.random,
        LANE=raw.lane if operand.width % 16 == 0 else 0, SCALE_RANDOM=raw.scale_random, WIDE=raw.wide,
        DGE=table.smooth, SPLINE=table.splines, INTERPRET=interpreted(),
        num_warps=8 if tile.elements > 2048 else 4, enable_fp_fusion=False,
    )  # fmt: skip


def _long(operand: LongBlocks, g: Tensor, out: Tensor, table: GradientTable, scales: tuple[Tensor, Tensor]) -> None:
    """Blocks' factors first, then the elements."""
    from dse.kernels.device.block_gradients import long_gradients_kernel

    q, raw = table.raw.quantizer, table.raw
    chosen = raw.ints
    if len(candidates(q)) > 1:
        _, chosen = chosen_factors(operand, scales[0])
    factors = factors_as_chosen(replace(operand, table=raw), scales[0], chosen)
    rows, columns = out.shape[1:]
    high, wide = 16, 128
    grid_k = -(-columns // wide)
    programs = -(-rows // high) * grid_k
    long_gradients_kernel[(len(out) * programs,)](
        *operand.source, g, *g.stride(), out, *out.stride(), raw.floats, raw.candidate_ints, raw.candidate_floats,
        scales[1], table.kinds, table.numbers, table.spline, table.spline.shape[-1],
        factors, factors.stride(0), chosen, *operand.sizes, grid_k, programs, PT=high, PB=wide,
        OUTER=isinstance(q.tensor_scale, Outer), CANDIDATES=len(candidates(q)), DGE=table.smooth, SPLINE=table.splines,
        INTERPRET=interpreted(), num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
