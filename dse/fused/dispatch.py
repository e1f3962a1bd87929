"""Which program quantizes an operand: the table-driven kernel, or the general ones of blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dse.fused import launch
from dse.fused.block_launch import both_blocks, quantize_blocks
from dse.fused.block_table import BlockTable, block_table
from dse.fused.carried import KeptScale
from dse.fused.launch import LaunchShape
from dse.fused.outlier_launch import OutlierTable, quantize_parts
from dse.fused.rows import RecipeTable
from dse.fused.rows import table as core_table
from dse.fused.support import CORE, Use, in_groups, inner, structure, uncovered
from dse.numerics.block import BlockQuantizer
from dse.numerics.quantizer import Identity, Quantized
from dse.numerics.random import Key

Table = RecipeTable | BlockTable | OutlierTable
"""One operand's options for E members."""


def table(uses: Sequence[Use], device: torch.device | str, kept: KeptScale | None = None) -> Table:
    """The table of uses of one ``structure``. Raises ValueError where one is not covered or they differ in it.

    ``kept``: the scale that stays out of values of 16 bits, in all of the uses.
    """
    for use in uses:
        if reason := uncovered(use):
            raise ValueError(f"no kernel for {reason}")
    programs = {structure(use) for use in uses}
    if len(programs) > 1:
        raise ValueError(f"no launch for operands of {len(programs)} structures: {'; '.join(sorted(programs))}")
    if programs <= {CORE} or all(in_groups(use) for use in uses):
        return core_table(uses, device, kept)
    first = uses[0].quantizer
    if not isinstance(first, BlockQuantizer) or first.outliers is None:
        return block_table(uses, device, kept)
    rotation = None
    if uses[0].rotation is not None:
        rotation = core_table([Use(Identity(), use.rotation) for use in uses], device)
    parts = _quantizers(table([inner(use) for use in uses], device))
    return OutlierTable(first.outliers, rotation, parts)


def _quantizers(own: Table) -> RecipeTable | BlockTable:
    assert not isinstance(own, OutlierTable)
    return own


def quantize(x: Tensor, table: Table, key: Key, dtype: torch.dtype, shape: LaunchShape | None = None) -> Quantized:
    """Every member's operand under its own options, after its GEMM's rotation: see ``dse.fused.launch.quantize``.

    ``shape``: of tiles of the table-driven kernel.
    """
    if isinstance(table, OutlierTable):
        return quantize_parts(x, table, key, dtype, quantize)
    if isinstance(table, BlockTable):
        return quantize_blocks(x, table, key, dtype)
    return launch.quantize(x, table, key, dtype, shape)


def quantize_both(
    x: Tensor,
    rows: Table,
    row_key: Key,
    columns: Table,
    column_key: Key,
    dtype: torch.dtype,
    shape: LaunchShape | None = None,
) -> tuple[Quantized, Quantized]:
    """``x`` [E, R, C] as an operand [R, C], and its transpose as an operand [C, R]: one read in the core kernel."""
    if isinstance(rows, BlockTable) and isinstance(columns, BlockTable):
        return both_blocks(x, (rows, columns), (row_key, column_key), dtype)
    if not isinstance(rows, RecipeTable) or not isinstance(columns, RecipeTable):
        return quantize(x, rows, row_key, dtype, shape), quantize(x.mT, columns, column_key, dtype, shape)
    return launch.quantize_both(x, rows, row_key, columns, column_key, dtype, shape)
