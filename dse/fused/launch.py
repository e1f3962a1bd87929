"""Launching the kernels: shapes of tiles and strides, and operands that need no launch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dse.fused.levels import LaunchTile, Operand, Prepared, Region, known_width, prepare
from dse.fused.long_launch import KEPT
from dse.fused.row_peaks import row_peaks
from dse.fused.rows import RecipeTable
from dse.kernels import SumFactors
from dse.kernels.availability import interpreted
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key

_AXIS = 65535
"""Programs on the second and third axis of a grid."""


@dataclass(frozen=True)
class LaunchShape:
    """Tiles: ``positions`` groups of 16 in a program of ``warps`` warps.

    ``along``: groups side by side in a tile along the contraction axis; ``across``: rows side by side in one across it;
    ``store``: elements of one write along the axis, 16: exchanged between threads first; ``repeat``: tiles of a
    program; ``registers``: of a thread at most, None: as many as the compiler likes; ``apart``: both axes by two
    programs; ``known``: compiled for the options that all members have, None: where the operand is large.
    """

    positions: int = 128
    along: int = 32
    across_positions: int = 256
    across: int = 256
    warps: int = 4
    store: int = 8
    repeat: int = 1
    registers: int | None = None
    apart: bool = True
    known: bool | None = None


_LARGE = 1 << 20
"""Elements of an operand for which a kernel of its own is worth the compilation."""
_PLENTY = 1024
"""Programs that keep a GPU busy: with fewer, none takes several tiles."""


def quantize(
    x: Tensor, table: RecipeTable, key: Key, dtype: torch.dtype, shape: LaunchShape | None = None
) -> Quantized:
    """Every member's operand under its own options, after its GEMM's rotation.

    ``x`` [E, R, K] float32 or bfloat16, any strides. ``key``: at this operand's quantization point, clock [E, 2],
    memory [E, 6] or None. ``dtype``: bfloat16, float16 or float32, of the values [E, R, K'], K' = K padded to the
    widest rotation among the members. Values are contiguous; where x's rows are (a transposed view), their transpose
    is. Where no member changes x, they are x itself. ``alpha``: float32 [E, 1, 1], or None where no member has one.
    Empty operands come back empty. Where ``key.matrices`` is set, each member has as many operands: ``x`` and the
    results are [E * matrices, ...], the table and the clock have E rows.
    """
    if (values := _converted(x, table, dtype)) is not None:
        return Quantized(values)
    across = x.stride(-1) != 1 and x.stride(-2) == 1
    if across:
        _, out = _run(x.mT, None, (table, key), dtype, shape)
    else:
        out, _ = _run(x, (table, key), None, dtype, shape)
    assert out is not None
    return out


def quantize_both(
    x: Tensor,
    rows: RecipeTable,
    row_key: Key,
    columns: RecipeTable,
    column_key: Key,
    dtype: torch.dtype,
    shape: LaunchShape | None = None,
) -> tuple[Quantized, Quantized]:
    """``x`` [E, R, C] as an operand [R, C], and its transpose as an operand [C, R], from one read of the memory.

    Both keys have the same clock and layer. Values [E, R, C'] and [E, C, R'], the second a view in x's layout. Where
    every member's second operand is the transpose of its first (square tiles, a plain cast), it is a view of it.
    """
    if rows.transposable is not None and rows.transposable == columns.transposable:
        first = quantize(x, rows, row_key, dtype, shape)
        return first, first._replace(values=first.values.mT)
    if x.stride(-1) != 1 and x.stride(-2) == 1:  # x is itself a transposed view: read it as it lies
        second, first = quantize_both(x.mT, columns, column_key, rows, row_key, dtype, shape)
        return first, second
    first_, second_ = _run(x, (rows, row_key), (columns, column_key), dtype, shape)
    assert first_ is not None
    assert second_ is not None
    return first_, second_


def _run(
    x: Tensor,
    along: tuple[RecipeTable, Key] | None,
    across: tuple[RecipeTable, Key] | None,
    dtype: torch.dtype,
    shape: LaunchShape | None,
) -> tuple[Quantized | None, Quantized | None]:
    from dse.kernels.device.quantize import quantize_kernel

    members, rows, columns = x.shape
    first, second = along or across, across or along
    assert first is not None
    assert second is not None
    one, two = first[0], second[0]
    out = _empty(x, one.padded(columns), dtype, transposed=False) if along else None
    out2 = _empty(x, two.padded(rows), dtype, transposed=True) if across else None
    if x.numel() == 0:
        return (None if out is None else Quantized(out.zero_())), (None if out2 is None else Quantized(out2.mT.zero_()))
    shape = shape or _shape(x, one, two, along is not None and across is not None)
    tile2 = _across(two, rows, columns, shape)
    if along and across:  # the same region
        shape = replace(shape, positions=tile2.positions, along=max(tile2.inner // 16, 1))
    tile = _along(one, columns, shape)
    warps = max(shape.warps, max(tile.positions if along else 0, tile2.positions // 2 if across else 0) // 128)
    region = Region(*_region(tile if along else None, tile2 if across else None, shape), warps)
    operands = [Operand(*first, tile, across=False)] * (along is not None)
    operands += [Operand(*second, tile2, across=True)] * (across is not None)
    known = x.numel() >= _LARGE if shape.known is None else shape.known
    prepared = prepare(x, operands, region, known)
    p, p2 = prepared[0], prepared[-1]
    peaks = [_peaks(x, own, ready) for own, ready in zip(operands, prepared, strict=True)]
    f = _factors(one, x.shape, dtype) if along else None
    f2 = _factors(two, x.mT.shape, dtype) if across else None
    o = out if out is not None else out2
    o2 = out2 if out2 is not None else out
    assert o is not None
    assert o2 is not None
    width = one.padded(columns) if along else 0
    width2 = two.padded(rows) if across else 0
    grid_r, grid_k = -(-max(rows, width2) // region.rows), -(-max(columns, width) // region.columns)
    clock = first[1].clock
    apart = along is not None and across is not None and shape.apart
    chunks = -(-grid_r // _AXIS), -(-members // _AXIS)
    grid = (1 + apart) * chunks[0] * chunks[1] * grid_k, min(grid_r, _AXIS), min(members, _AXIS)
    quantize_kernel[grid](
        x, *x.stride(), rows, columns, clock, *clock.stride(), first[1].layer,
        max(first[1].matrices, 1),
        o, *o.stride(), width, one.ints, one.floats, p.signs, p.signs_share, p.levels, p.levels_share,
        int(first[1].point),
        o2, *_transposed(o2), width2, two.ints, two.floats, p2.signs, p2.signs_share, p2.levels, p2.levels_share,
        int(second[1].point), *_options(one), *_options(two), peaks[0], peaks[-1], *_scales(f, one), *_scales(f2, two),
        grid_k, chunks[0], members, RR=region.rows, RK=region.columns, MANY=chunks != (1, 1),
        ALONG=along is not None, ACROSS=across is not None,
        RUN=8 if x.dtype == torch.bfloat16 else 4,
        STORE=shape.store if dtype.itemsize == 2 else 4,
        P=tile.positions, INNER=tile.inner, **_flags(one, ""),
        P2=tile2.positions, INNER2=tile2.inner, **_flags(two, "2"),
        **_structure(one, known, ""), **_structure(two, known, "2"),
        **_kept(one, f, ""), **_kept(two, f2, "2"),
        ONE=one.common if known else None, TWO=two.common if known else None,
        WIDTH=known_width(x) if x.numel() >= _LARGE or known else 0, APART=apart,
        FIT=region.fit(x, columns), FIT2=region.fit(x, rows),
        INTERPRET=interpreted(), num_warps=warps, enable_fp_fusion=False, maxnreg=shape.registers,
    )  # fmt: skip
    return (
        None if out is None else Quantized(out, p.alpha, f),
        None if out2 is None else Quantized(out2.mT, p2.alpha, f2),
    )


def _peaks(x: Tensor, operand: Operand, ready: Prepared) -> Tensor:
    """Of its rows where their scales need them, or a tensor that is not read."""
    table = operand.table
    return row_peaks(x, operand, ready.signs, ready.signs_share) if table.by_row else table.ints


def _factors(table: RecipeTable, shape: torch.Size, dtype: torch.dtype) -> SumFactors | None:
    """Room for what is kept out of the values of an operand [E, R, K] in ``dtype``."""
    kept = table.kept
    if kept is None or dtype.itemsize > 2:
        return None
    members, rows, columns = shape
    groups = -(-table.padded(columns) // kept.group) if kept.group else 1
    return SumFactors(torch.empty(members, groups, rows, device=table.ints.device), kept.group)


def _scales(factors: SumFactors | None, table: RecipeTable) -> tuple[Tensor, int]:
    """The scales to be written and their number for a row, or a tensor that is not written."""
    return (table.levels, 0) if factors is None else (factors.scales, factors.scales.shape[1])


def _kept(table: RecipeTable, factors: SumFactors | None, suffix: str) -> dict[str, int]:
    if table.kept is None or factors is None:
        return {"KEPT" + suffix: 0, "UNDER" + suffix: 0}
    return {"KEPT" + suffix: KEPT[table.kept.scale], "UNDER" + suffix: table.kept.group // 16}


def _converted(x: Tensor, table: RecipeTable, dtype: torch.dtype) -> Tensor | None:
    """The values where a plain conversion gives every member's; x itself where it has them already."""
    unchanged = table.elementwise == "identity" and x.dtype in (dtype, torch.bfloat16)
    rounded = table.elementwise == "bf16" and torch.bfloat16 in (x.dtype, dtype)
    return x.to(dtype) if unchanged or rounded else None


def _shape(x: Tensor, one: RecipeTable, two: RecipeTable, both: bool) -> LaunchShape:
    """A group of 16 for each thread, for both axes in turn; programs that read tables have two tiles."""
    narrow = two.statics.joined <= 1  # rows of 128 bytes at least in a tile across
    if x.numel() >= _LARGE and narrow:
        known = one.common is not None and two.common is not None
        random = one.statics.random or two.statics.random
        repeat = 4 if random else 2 if both and not known else 1
        return LaunchShape(across_positions=128, across=128, apart=False, repeat=repeat)
    plain = not any(s.rotates or s.random or s.wide for s in (one.statics, two.statics)) and not (
        one.options or two.options
    )
    repeated = LaunchShape(repeat=4)
    per_program = repeated.repeat * 16 * repeated.across_positions
    return repeated if both and plain and 2 * x.numel() >= _PLENTY * per_program else LaunchShape()


def _empty(x: Tensor, width: int, dtype: torch.dtype, transposed: bool) -> Tensor:
    """[E, R, K'], or for the transposed operand [E, R', K] in x's layout."""
    e, r, k = x.shape
    return torch.empty((e, width, k) if transposed else (e, r, width), dtype=dtype, device=x.device)


def _transposed(out: Tensor) -> tuple[int, int, int]:
    e, r, k = out.stride()
    return e, k, r


def _flags(table: RecipeTable, suffix: str) -> dict[str, Any]:
    statics = table.statics._asdict().items()
    return {name.upper() + suffix: value for name, value in statics if name != "beside"}


def _options(table: RecipeTable) -> tuple[Tensor, int]:
    """The table of the block options and its width, or a tensor that is not read."""
    return (table.ints, 0) if table.options is None else (table.options.fields, table.options.fields.shape[1])


def _structure(table: RecipeTable, known: bool, suffix: str) -> dict[str, Any]:
    from dse.kernels.device import statistics

    options = table.options
    found = {
        "HOW": None if options is None else options.how,
        "TERMS": getattr(statistics, "absmax_terms" if options is None else options.statistic.terms),
        "VALUE": getattr(statistics, "absmax_value" if options is None else options.statistic.value),
        "MORE": None if options is None or not known else options.common,
    }
    return {name + suffix: value for name, value in found.items()}


def _power(n: int) -> int:
    """The next power of two."""
    return 1 << max(n - 1, 0).bit_length()


def _fitting(extent: int, widest: int, least: int) -> int:
    """The widest power of two that covers ``extent``, else with at most an eighth more, else with least more."""
    widths = [w for w in (widest, widest // 2, widest // 4, widest // 8) if w >= least] or [widest]
    covered = {w: -(-extent // w) * w for w in widths}
    if extent in covered.values():
        return next(w for w in widths if covered[w] == extent)
    return next((w for w in widths if covered[w] * 8 <= extent * 9), min(widths, key=lambda w: (covered[w], -w)))


def _along(table: RecipeTable, columns: int, shape: LaunchShape) -> LaunchTile:
    s = table.statics
    needed, rows = 1 << s.joined, 1 << s.tiles
    groups = -(-columns // 16)
    inner = max(_fitting(groups, min(shape.along, _power(groups)), 4), needed)
    if inner * rows > shape.positions:
        inner = max(shape.positions // rows, needed)
    return LaunchTile(max(shape.positions, inner * rows), inner)


def _across(table: RecipeTable, rows: int, columns: int, shape: LaunchShape) -> LaunchTile:
    """Of x [R, C], whose transpose [C, R] is the operand: groups run down its rows."""
    s = table.statics
    needed, side = 1 << s.joined, 1 << s.tiles
    widest = max(_fitting(columns, min(shape.across, _power(columns)), 32), side, 32)
    groups = max(needed, min(_power(-(-rows // 16)), shape.across_positions // widest))
    inner = min(max(shape.across_positions // groups, side, 4), widest)
    return LaunchTile(groups * inner, inner)


def _region(along: LaunchTile | None, across: LaunchTile | None, shape: LaunchShape) -> tuple[int, int]:
    rows = columns = 1
    if along is not None:
        rows, columns = along.positions // along.inner, 16 * along.inner
    if across is not None:
        rows, columns = max(rows, 16 * (across.positions // across.inner)), max(columns, across.inner)
    return rows * shape.repeat, columns
