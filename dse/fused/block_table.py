"""Tables of the general kernels of blocks: what members have in common is compiled in, their numbers are rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dse.fused.block_numbers import block_row, lane, short
from dse.fused.carried import KeptScale
from dse.fused.device_code import candidates, undone
from dse.fused.rows import RecipeTable
from dse.fused.rows import table as core_table
from dse.fused.support import Use
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import Format
from dse.numerics.quantizer import Identity
from dse.numerics.value_formats import ValueFormat


@dataclass(frozen=True, eq=False)
class BlockTable:
    """One operand's quantizers for E members of one structure (``dse.fused.structure``).

    ``rotation``: the table of the rotation that goes before, or None; ``ints`` int32 [E, 16], ``floats`` float32
    [E, 16], ``candidate_ints`` int32 [E, C, 8], ``candidate_floats`` float32 [E, C, 8]: see block_factors.py;
    ``codes``: whether candidates differ in scale codes; ``lane``: bits of a random lane where all stochastic members
    have the same, else 0; ``levels``: the kinds of tensor scales, member by member; ``alpha`` [E, 1, 1]: of the gain
    alone, or None; ``values`` float32 [E, C, 2, V]: of formats that are lists, magnitudes upward and downward, then
    infinities, or None; ``kept``: the scale that stays out of values of 16 bits.
    """

    quantizer: BlockQuantizer
    rotation: RecipeTable | None
    ints: Tensor
    floats: Tensor
    candidate_ints: Tensor
    candidate_floats: Tensor
    codes: bool
    random: bool
    lane: int
    scale_random: bool
    wide: bool
    levels: tuple[int, ...]
    alpha: Tensor | None
    values: Tensor | None
    kept: KeptScale | None = None

    @property
    def measured(self) -> bool:
        """Whether some member's tensor scale is the operand's."""
        return any(level in (1, 2) for level in self.levels)

    @property
    def holds(self) -> bool:
        """Whether some member holds a tensor scale between steps."""
        return 2 in self.levels


def block_table(uses: Sequence[Use], device: torch.device | str, kept: KeptScale | None = None) -> BlockTable:
    """The table of uses of one structure."""
    rows = [block_row(use.quantizer) for use in uses if isinstance(use.quantizer, BlockQuantizer)]
    quantizers = [use.quantizer for use in uses if isinstance(use.quantizer, BlockQuantizer)]
    rotation = None
    if uses[0].rotation is not None:
        rotation = core_table([Use(Identity(), use.rotation) for use in uses], device)

    def ints(values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.int32).to(device)

    def floats(values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).to(torch.float32).to(device)

    levels = tuple(row.ints[8] for row in rows)
    lanes = {lane(q.rounding) for q in quantizers if q.rounding.random_bits}
    gains = [undone(q) for q in quantizers]
    measured = any(level in (1, 2) for level in levels)
    return BlockTable(
        quantizers[0],
        rotation,
        ints([row.ints for row in rows]),
        floats([row.floats for row in rows]),
        ints([row.candidate_ints for row in rows]),
        floats([row.candidate_floats for row in rows]),
        any(how[2] for row in rows for how in row.candidate_ints),
        bool(lanes),
        lanes.pop() if len(lanes) == 1 else 0,
        any(q.scale_rounding.random_bits for q in quantizers),
        _wide([how.element for q in quantizers for how in candidates(q)]),
        levels,
        None if measured or all(gain == 1 for gain in gains) else floats(gains)[:, None, None],
        None
        if _lists(quantizers) == 0
        else floats([[_values(how.element, _lists(quantizers)) for how in candidates(q)] for q in quantizers]),
        kept,
    )


def _wide(formats: Sequence[Format]) -> bool:
    """Whether some have long mantissas; beside lists of values: whether some are none."""
    lists = any(isinstance(fmt, ValueFormat) for fmt in formats)
    return any(not isinstance(fmt, ValueFormat) and (lists or not short(fmt)) for fmt in formats)


def _lists(quantizers: Sequence[BlockQuantizer]) -> int:
    """Places in a half of the longest list of values, a power of two; 0: no element format is one."""
    formats = [how.element for q in quantizers for how in candidates(q)]
    counts = [len(half) for fmt in formats if isinstance(fmt, ValueFormat) for half in fmt.halves]
    return 1 << (max(counts) - 1).bit_length() if counts else 0


def _values(fmt: Format, places: int) -> list[list[float]]:
    halves = fmt.halves if isinstance(fmt, ValueFormat) else ((), ())  # not read
    return [[*half, *[float("inf")] * (places - len(half))] for half in halves]
