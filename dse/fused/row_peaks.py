"""The largest magnitudes of rows, which outer scales of whole rows are made of: a launch before the quantizer's."""

from __future__ import annotations

import torch
from torch import Tensor

from dse.fused.levels import Operand
from dse.kernels.availability import interpreted

_LOOPS = 4
"""Tiles of a program along the contraction axis."""


def row_peaks(x: Tensor, operand: Operand, signs: Tensor, share: int) -> Tensor:
    """Of x [E, R, C], or ``across`` of its transpose, as an operand, behind its rotation: int32 [E, R'].

    The bits of the largest magnitude of each tile of rows in its place; ``share`` operands have a row of ``signs``.
    """
    from dse.kernels.device.row_peaks import row_peaks_kernel

    table, tile, across = operand.table, operand.tile, operand.across
    x = x.mT if across else x
    members, rows, columns = x.shape
    padded = table.padded(columns)
    beside = tile.inner if across else tile.positions // tile.inner
    tiles = -(-padded // (tile.positions // beside * 16))
    loops = min(_LOOPS, tiles)
    chunks, bands = -(-tiles // loops), -(-rows // beside)
    peaks = torch.zeros(members, rows, dtype=torch.int32, device=x.device)
    row_peaks_kernel[(members * bands * chunks,)](
        x, *x.stride(), rows, columns, padded, max(operand.key.matrices, 1), peaks, table.ints, table.floats, signs,
        share, chunks, bands * chunks, ACROSS=across, RUN=8 if x.dtype == torch.bfloat16 else 4, P=tile.positions,
        INNER=tile.inner, LOOPS=loops, ROTATES=table.statics.rotates, STAGES=table.statics.stages,
        FIT=int(columns % 16 == 0), INTERPRET=interpreted(), num_warps=max(4, tile.positions // 128),
        enable_fp_fusion=False,
    )  # fmt: skip
    return peaks


__all__ = ["row_peaks"]
