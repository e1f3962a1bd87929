"""Tables of the general kernels of blocks: what members have in common is compiled in, their numbers are rows."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dse.fused.device_code import LEVELS, candidates, statistic_code
from dse.fused.rows import RecipeTable
from dse.fused.rows import table as core_table
from dse.fused.support import Use
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import Format
from dse.numerics.quantizer import Identity
from dse.numerics.techniques.choices import Candidate
from dse.numerics.techniques.conventions import Encode
from dse.numerics.techniques.rounding import AwayFromZero, MantissaEven, NearestAway, NearestEven, Rounding, Stochastic
from dse.numerics.techniques.tensor_scales import Delayed
from dse.numerics.value_formats import ValueFormat

_NEVER, _ALWAYS = 2.0, 2.0**-149
"""Thresholds for the fraction: none reaches the first, every one but 0 the second."""
THRESHOLDS: dict[type[Rounding], Callable[[Any], tuple[float, float]]] = {
    MantissaEven: lambda r: (_NEVER, 2.0 ** -(r.mantissa + 1)),
    NearestAway: lambda r: (0.5, 0.0),
    AwayFromZero: lambda r: (_ALWAYS, 0.0),
}
"""Deterministic roundings of v >= 0 to floor(v + offset), one more where the fraction reaches a threshold: (threshold,
offset). Toward zero is (never, 0)."""


@dataclass(frozen=True, eq=False)
class BlockTable:
    """One operand's quantizers for E members of one structure (``dse.fused.structure``).

    ``rotation``: the table of the rotation that goes before, or None; ``ints`` int32 [E, 16], ``floats`` float32
    [E, 16], ``candidate_ints`` int32 [E, C, 4], ``candidate_floats`` float32 [E, C, 8]: see block_factors.py;
    ``codes``: whether candidates differ in scale codes; ``lane``: bits of a random lane where all stochastic members
    have the same, else 0; ``levels``: the kinds of tensor scales, member by member; ``alpha`` [E, 1, 1]: of the gain
    alone, or None; ``values`` float32 [E, 2, V]: of formats that are lists, magnitudes upward and downward, then
    infinities, or None.
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

    @property
    def measured(self) -> bool:
        """Whether some member's tensor scale is the operand's."""
        return any(level in (1, 2) for level in self.levels)


def block_table(uses: Sequence[Use], device: torch.device | str) -> BlockTable:
    """The table of uses of one structure."""
    rows = [_row(use.quantizer) for use in uses if isinstance(use.quantizer, BlockQuantizer)]
    quantizers = [use.quantizer for use in uses if isinstance(use.quantizer, BlockQuantizer)]
    rotation = None
    if uses[0].rotation is not None:
        rotation = core_table([Use(Identity(), use.rotation) for use in uses], device)

    def ints(values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.int32).to(device)

    def floats(values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).to(torch.float32).to(device)

    levels = tuple(row.ints[8] for row in rows)
    lanes = {_lane(q.rounding) for q in quantizers if q.rounding.random_bits}
    gains = [1 / q.gain for q in quantizers]
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
        any(not short(how.element) for q in quantizers for how in candidates(q)),
        levels,
        None if measured or all(gain == 1 for gain in gains) else floats(gains)[:, None, None],
        None if _lists(quantizers) == 0 else floats([_values(q.element, _lists(quantizers)) for q in quantizers]),
    )


def _lists(quantizers: Sequence[BlockQuantizer]) -> int:
    """Places in a half of the longest list of values, a power of two; 0: no element format is one."""
    counts = [len(half) for q in quantizers if isinstance(q.element, ValueFormat) for half in q.element.halves]
    return 1 << (max(counts) - 1).bit_length() if counts else 0


def _values(fmt: Format, places: int) -> list[list[float]]:
    assert isinstance(fmt, ValueFormat)
    return [[*half, *[float("inf")] * (places - len(half))] for half in fmt.halves]


@dataclass(frozen=True)
class _Row:
    ints: list[int]
    floats: list[float]
    candidate_ints: list[list[int]]
    candidate_floats: list[list[float]]


def _row(q: BlockQuantizer) -> _Row:
    mode, bits, threshold, offset = _rounding(q.rounding)
    scale_mode, scale_bits, scale_threshold, scale_offset = _rounding(q.scale_rounding)
    encode = isinstance(q.convention, Encode)
    level = 0 if q.tensor_scale is None else LEVELS[type(q.tensor_scale)]
    every = q.tensor_scale.every if isinstance(q.tensor_scale, Delayed) else 1
    zero = {"flush": 0.0, "smallest": q.scale.smallest, "one": 1.0}[q.convention.zero]
    upward, downward = map(len, q.element.halves) if isinstance(q.element, ValueFormat) else (0, 0)
    ints = [
        mode, bits, (0, 2, 1)[scale_mode], _float_bits(2.0**q.scale.emin), q.scale.man << 23, scale_bits, encode,
        q.convention.encode_with == "unquantized", level, bool(getattr(q.convention, "divisor", False)), every,
        upward, *_codes(q.scale), downward,
    ]  # fmt: skip
    floats = [
        threshold, offset, q.scale.max, 0.0 if q.scale.subnormals else q.scale.smallest, scale_threshold, scale_offset,
        zero, q.gain, 1 / q.gain, *statistic_code(q).numbers, *[0.0] * 5,
    ]  # fmt: skip
    hows = [_candidate(q, how) for how in candidates(q)]
    return _Row([int(i) for i in ints], floats, [how[0] for how in hows], [how[1] for how in hows])


def _candidate(q: BlockQuantizer, how: Candidate) -> tuple[list[int], list[float]]:
    """Numbers of one candidate, products and quotients in the order of ``BlockQuantizer._factors``."""
    own = candidates(q)[0].constant
    target, base = 0.0, 0.0
    if q.tensor_scale is not None:
        target = q.tensor_scale.target or (q.scale.max if q.scale.exp < 8 else 1.0)
        if q.choice is not None:
            target = target * own / how.constant
            base = own if q.choice.divides else 0.0
    hides = how.element.max / how.gain * q.convention.largest(q.scale) <= torch.finfo(torch.float32).max
    ints = [_float_bits(2.0**how.element.emin), how.element.man << 23, how.codes, int(hides)]
    c = how.constant
    floats = [how.element.max, c, 1.0 / c, target * c, base, base / c if base else 1.0, how.gain, 1 / how.gain]
    return ints, floats


def _rounding(rounding: Rounding) -> tuple[int, int, float, float]:
    """(mode, random bits, threshold of the fraction, offset): 0 nearest-even, 1 stochastic, 2 by threshold."""
    if isinstance(rounding, Stochastic):
        return 1, rounding.bits, _NEVER, 0.0
    if isinstance(rounding, NearestEven):
        return 0, 0, _NEVER, 0.0
    return 2, 0, *THRESHOLDS.get(type(rounding), lambda r: (_NEVER, 0.0))(rounding)


def _lane(rounding: Rounding) -> int:
    n = rounding.random_bits
    return 8 if n <= 8 else 16 if n <= 16 else 32


def short(fmt: Format) -> bool:
    """Whether nine fractional bits fit above the lattice, and the smallest step is a normal float."""
    return not isinstance(fmt, ValueFormat) and fmt.man <= 8 and fmt.emin - fmt.man >= -100 and fmt.emax <= 100


def _codes(scale: Format) -> tuple[int, int, int]:
    """(last code, bits of 1 / smallest, first code) of the positive numbers, in FP32's own codes where the bits are 0.

    Zeros for a format that has no codes to count.
    """
    if scale.exp + scale.man > 15:
        return 0, 0, 0
    own = scale.emin <= -126
    if own:
        return _float_bits(scale.max) >> 23 - scale.man, 0, int(scale.subnormals)
    last = (_float_bits(scale.max) - _float_bits(2.0**scale.emin) >> 23 - scale.man) + (1 << scale.man)
    return last, _float_bits(1 / scale.smallest), 1 if scale.subnormals else 1 << scale.man


def _float_bits(value: float) -> int:
    """The bits of a float32."""
    return int(struct.unpack("<i", struct.pack("<f", value))[0])
