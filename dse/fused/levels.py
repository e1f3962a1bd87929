"""What is known before an operand is quantized: its rotation's signs, and its tensor scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dse.fused.rows import RecipeTable
from dse.kernels.availability import address, interpreted
from dse.numerics.gemm import rotation_key
from dse.numerics.random import Key

_POSITIONS = 128
"""Of a tile whose elements are read in pairs."""


class LaunchTile(NamedTuple):
    """Positions of a tile, and how many of them lie side by side in memory."""

    positions: int
    inner: int


class Operand(NamedTuple):
    """A tensor x [E, R, K], or (``across``) its transpose, as an operand: options, key, and the tiles it is read in."""

    table: RecipeTable
    key: Key
    tile: LaunchTile
    across: bool


class Region(NamedTuple):
    """Rows and columns of x that a program works on, and its warps."""

    rows: int
    columns: int
    warps: int

    def fit(self, x: Tensor, columns: int) -> int:
        """2 where regions cover x without a rest, 1 where groups of 16 cover an operand's columns, else 0."""
        if x.shape[1] % self.rows == x.shape[2] % self.columns == 0:
            return 2
        return int(columns % 16 == 0)

    def count(self, x: Tensor) -> int:
        """Regions of one member's matrix."""
        return -(-x.shape[1] // self.rows) * -(-x.shape[2] // self.columns)


class Prepared(NamedTuple):
    """Signs int32 [E, 80], levels float32 [E, 2] (see ``peaks.level_kernel``), and the epilogue's alpha [E, 1, 1].

    Where members have several operands (``Key.matrices``), alpha has a row for each, the others for each or one for all
    of a member's: ``signs_share`` and ``levels_share`` operands have the same row.
    """

    signs: Tensor
    levels: Tensor
    alpha: Tensor | None
    signs_share: int
    levels_share: int


def prepare(x: Tensor, operands: Sequence[Operand], region: Region, known: bool) -> list[Prepared]:
    """For one operand, or two of the same tensor; x [E, R, K] is read once where one of them at most is rotated.

    ``known``: kernels are compiled for the rotation that all members have.
    """
    signs = [member_signs(o.table, o.key) for o in operands]
    matrices = max(operands[0].key.matrices, 1)
    found = [
        Prepared(s, o.table.levels, _each(o.table.alpha, matrices), len(x) // len(s), matrices)
        for s, o in zip(signs, operands, strict=True)
    ]
    at = [i for i, o in enumerate(operands) if o.table.scaled]
    at.sort(key=lambda i: not operands[i].table.statics.rotates)
    if not at:
        return found
    scaled = [operands[i] for i in at]
    if len(at) == 1 or not scaled[1].table.statics.rotates:
        partials = _peaks(x, scaled, signs[at[0]], region, known)
    else:
        partials = [_peaks(x, [operands[i]], signs[i], region, known)[0] for i in at]
    for i, level in zip(at, _levels(scaled, partials), strict=True):
        found[i] = Prepared(signs[i], *level, found[i].signs_share, 1)
    return found


def known_width(x: Tensor) -> int:
    """Columns of x [E, R, C] where they are the stride of its rows, else 0."""
    return x.shape[2] if x.stride(2) == 1 and x.stride(1) == x.shape[2] else 0


def _each(alpha: Tensor | None, matrices: int) -> Tensor | None:
    """Of every operand, from that of its member."""
    return alpha if alpha is None or matrices == 1 else alpha.repeat_interleave(matrices, 0)


def member_signs(table: RecipeTable, key: Key) -> Tensor:
    """Signs of each member's rotation (``RecipeTable.signs``): drawn for the GEMM of ``key``'s point, or the fixed.

    Drawn ones are those of each operand, where a member has several.
    """
    from dse.kernels.device.quantize import signs_kernel

    if not table.draws_signs:
        return table.signs
    matrices, clock = max(key.matrices, 1), key.clock
    signs = table.signs.new_empty(len(table.signs) * matrices, table.signs.shape[1])
    point = rotation_key(key.at(key.point & ~1)).point  # by the GEMM's left operand
    signs_kernel[(len(signs),)](
        table.signs, signs, table.ints, table.drawn, clock, *clock.stride(), key.layer, point, matrices, WORDS=64
    )
    return signs


def _memory(operand: Operand) -> Tensor:
    """[E]: what the operand's point holds between steps; something to point at where nothing is held."""
    key = operand.key
    return operand.table.levels.select(-1, 0) if key.memory is None else key.memory.select(-1, key.point)


def _holding(operands: Sequence[Operand]) -> dict[str, bool]:
    """HELD: whether some member holds a tensor scale between steps; SAMPLING: whether it may measure it anew."""
    held = any(o.table.holds and o.key.memory is not None for o in operands)
    return {"SAMPLING": held and operands[0].key.sampling, "HELD": held}


def _peaks(x: Tensor, operands: Sequence[Operand], signs: Tensor, region: Region, known: bool) -> list[Tensor]:
    """Largest magnitudes int32 [E * regions] of every region, for each operand; only the first may be rotated."""
    from dse.kernels.device.peaks import peak_kernel

    first, last = operands[0], operands[-1]
    rotates = first.table.statics.rotates
    tile, pairs = first.tile, first.across and _pairs(x)
    if pairs:
        x = x.view(torch.int32)
        groups = max(_POSITIONS // max(tile.inner // 2, 1), 1 << first.table.statics.stages)
        tile = LaunchTile(_POSITIONS, _POSITIONS // groups)
        region = Region(max(region.rows, 16 * groups), max(region.columns // 2, tile.inner), 4)
    partials = [torch.empty(len(x) * region.count(x), dtype=torch.int32, device=x.device)]
    if len(operands) == 2:
        partials.append(torch.empty_like(partials[0]) if rotates else partials[0])
    clock, memory, memory2 = first.key.clock, _memory(first), _memory(last)
    row = first.table.common if known else None
    peak_kernel[(partials[0].numel(),)](
        x, *x.stride(), x.shape[1], x.shape[2], clock, *clock.stride(), max(first.key.matrices, 1),
        partials[0], first.table.ints, first.table.floats, signs, len(x) // len(signs),
        first.table.level_ints, memory, memory.stride(0),
        partials[-1], last.table.level_ints, memory2, memory2.stride(0),
        -(-x.shape[1] // region.rows), -(-x.shape[2] // region.columns), RR=region.rows, RK=region.columns,
        ACROSS=first.across, RUN=8 if x.dtype == torch.bfloat16 else 4, P=tile.positions, INNER=tile.inner,
        ROTATES=rotates, STAGES=first.table.statics.stages, TWO=len(operands) == 2,
        PLAIN=len(partials) == 2 and rotates,
        ROW=None if row is None else (row[1], row[22], row[25]),
        WIDTH=known_width(x) if known else 0, PAIRS=pairs, FIT=region.fit(x, x.shape[1 if first.across else 2]),
        INTERPRET=interpreted(),
        **_holding(operands),
        num_warps=region.warps, enable_fp_fusion=False,
    )  # fmt: skip
    return partials


def _pairs(x: Tensor) -> bool:
    """Whether BF16 numbers of x [E, R, C] can be read in pairs, as int32."""
    even = not any(n % 2 for n in (x.shape[2], x.stride(0), x.stride(1), x.storage_offset()))
    return x.dtype == torch.bfloat16 and x.stride(2) == 1 and even and address(x) % 4 == 0


def _levels(operands: Sequence[Operand], partials: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """``Prepared.levels`` and ``alpha`` of each operand from its regions' maxima; held ones are updated."""
    from dse.kernels.device.peaks import level_kernel

    key, matrices = operands[0].key, max(operands[0].key.matrices, 1)
    members = len(operands[0].table.levels) * matrices
    found, arguments = [], []
    for operand, partial in zip(operands, partials, strict=True):
        table, memory = operand.table, _memory(operand)
        found.append(
            (torch.empty(members, 2, device=partial.device), torch.empty(members, 1, 1, device=partial.device))
        )
        arguments.append(
            (
                partial,
                partial.numel() // members,
                table.level_ints,
                table.level_floats,
                memory,
                memory.stride(0),
                found[-1][0],
                found[-1][1],
            )
        )
    count = max(partial.numel() // members for partial in partials)
    wide = 128 if count <= 128 else 4096
    loops = -(-count // wide)
    level_kernel[(members, len(operands))](
        key.clock, *key.clock.stride(), matrices, *arguments[0], *arguments[-1],
        N=wide, LOOPS=1 << max(loops - 1, 0).bit_length(), **_holding(operands),
        num_warps=4 if wide == 128 else 16, enable_fp_fusion=False,
    )  # fmt: skip
    return found
