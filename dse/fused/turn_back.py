"""Launching the inverse of the members' rotations, for gradients that come back in the rotated space."""

from __future__ import annotations

import torch
from torch import Tensor

from dse.fused.levels import member_signs
from dse.fused.rows import RecipeTable
from dse.kernels.availability import interpreted
from dse.numerics.random import Key

_POSITIONS = 128
"""Groups of 16 elements in a program."""


def turn_back(x: Tensor, table: RecipeTable, key: Key, columns: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """X R^T of every member, R its own rotation: what ``Gemm.back`` gives, cut to ``columns``.

    ``x`` [E, R, K'] float32 or bfloat16, K' = ``columns`` padded to the widest rotation. ``key``: at a quantization
    point of the GEMM that has turned, clock [E, 2]. -> [E, R, columns] in ``dtype``, contiguous.
    """
    from dse.kernels.device.turn_back import turn_back_kernel

    members, rows, width = x.shape
    out = torch.empty(members, rows, columns, dtype=dtype, device=x.device)
    if out.numel() == 0:
        return out
    stages = table.statics.stages
    groups = -(-columns // 16)
    inner = max(min(1 << max(groups - 1, 0).bit_length(), 32), 1 << stages)
    positions = max(_POSITIONS, inner)
    tiles_k = -(-groups // inner)
    tiles = -(-rows // (positions // inner)) * tiles_k
    signs = member_signs(table, key)
    turn_back_kernel[(members * tiles,)](
        x, *x.stride(), rows, width, out, *out.stride(), columns, table.ints, table.floats,
        signs, members // len(signs), max(key.matrices, 1), tiles_k, tiles,
        RUN=8 if x.dtype == torch.bfloat16 else 4, STORE=8 if dtype == torch.bfloat16 else 4,
        P=positions, INNER=inner, STAGES=stages, INTERPRET=interpreted(), num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return out
