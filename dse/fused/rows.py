"""The recipe as data: one row per member, on the device, and the few properties of the whole that compilation sees."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dse.fused.block_rows import BlockOptions, block_options
from dse.fused.carried import KeptScale
from dse.fused.device_code import undone
from dse.fused.support import Use, in_groups, uncovered_by_core
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E8M0
from dse.numerics.quantizer import BFloat16
from dse.numerics.techniques.conventions import Decode, Encode
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rotations.hadamard import TE_MINUS
from dse.numerics.techniques.rounding import AwayFromZero, MantissaEven, NearestAway, NearestEven, Rounding, Stochastic
from dse.numerics.techniques.tensor_scales import Delayed

INT_FIELDS = (
    "kind", "rotation", "block", "tile", "mode", "emin", "man", "bits", "scale_mode", "scale_emin", "scale_man",
    "scale_bits", "convention",
)  # fmt: skip
"""kind: 0 identity, 1 BF16, 2 blocks. mode: 0 nearest-even, 1 stochastic with 8 bits or fewer, 2 by threshold, 3
stochastic with more; scale_mode: 0 nearest-even, 1 by threshold, 2 stochastic. convention: 1 encode, 2 unquantized, 4
with the divisor."""
FLOAT_FIELDS = (
    "max", "threshold", "offset", "scale_max", "scale_low", "scale_threshold", "scale_offset", "zero", "gain",
    "rotation_factor", "c",
)  # fmt: skip
_WIDTH, _WORDS = 16, 64
_ONES, _MINUS = 0x3F800000, -0x40800000
"""The bits of 1 and -1."""
_NEVER, _ALWAYS = 2.0, 2.0**-149
"""Thresholds for the fraction: none reaches the first, every one but 0 the second."""


class Statics(NamedTuple):
    """What compilation sees. Sizes as log2: of joined groups of a rotation and of a block, of rows of a tile, of blocks
    side by side that depend on each other."""

    rotates: bool = False
    stages: int = 0
    blocks: int = 0
    tiles: int = 0
    encode: bool = False
    random: bool = False
    wide: bool = False
    threshold: bool = False
    scale_random: bool = False
    beside: int = 0

    @property
    def joined(self) -> int:
        """log2 of the groups of 16 that one group's values may depend on, along the contraction axis."""
        return max(self.stages, self.blocks + self.beside)


@dataclass(frozen=True, eq=False)
class RecipeTable:
    """One operand's options for E members.

    ``ints`` int32 [E, 16], ``floats`` float32 [E, 16]: INT_FIELDS, FLOAT_FIELDS; ``signs`` int32 [E, 80]: 16 sign bits
    for each group of a rotation, and the first 16 as bits of 1 or -1; ``drawn`` int32 [E]: 1 where signs are random;
    ``level_ints``, ``level_floats`` [E, 4]: see device.peaks.level_kernel; ``holds``: whether a member holds its tensor
    scale between steps; ``levels`` float32 [E, 2]: the multiplier of Z, and alpha, without a tensor scale; ``alpha``
    [E, 1, 1]: of the gain alone, or None. ``rotations``: the sizes there are. ``elementwise``:
    'identity' or 'bf16' where this is all that any member does, else None. ``transposable``: a row per member where
    every one of them quantizes X^T to f(X)^T, else None: tables of equal rows then give transposes of each other.
    ``common``: what the kernels are compiled for where all members have it: the ints, the bits of the floats, whether
    NaN elements have NaN scales, and the sign bits (-1: drawn); None where members differ. ``options``: choices,
    statistics and outer scales, or None; ``kept``: the scale that stays out of values of 16 bits.
    """

    statics: Statics
    rotations: tuple[int, ...]
    elementwise: str | None
    transposable: tuple[object, ...] | None
    common: tuple[int, ...] | None
    draws_signs: bool
    scaled: bool
    holds: bool
    ints: Tensor
    floats: Tensor
    signs: Tensor
    drawn: Tensor
    level_ints: Tensor
    level_floats: Tensor
    levels: Tensor
    alpha: Tensor | None
    options: BlockOptions | None = None
    kept: KeptScale | None = None

    @property
    def by_row(self) -> bool:
        """Whether outer scales are those of rows, whose largest magnitudes have to be known before."""
        return self.options is not None and self.options.of_rows

    def padded(self, columns: int) -> int:
        """Columns of the quantized operand: padded to the widest rotation among the members."""
        return max(-(-columns // size) * size for size in self.rotations)


class _Row(NamedTuple):
    ints: dict[str, int]
    floats: dict[str, float]
    signs: list[int]
    drawn: int
    nan_scales: bool
    level_ints: tuple[int, int, int]
    level_floats: tuple[float, float, float]


def table(uses: Sequence[Use], device: torch.device | str, kept: KeptScale | None = None) -> RecipeTable:
    """Raises ValueError where a use is not covered, or some have block options and not the same structure."""
    for use in uses:
        if (reason := uncovered_by_core(use)) and not in_groups(use):
            raise ValueError(f"no kernel for {reason}")
    options = block_options(uses, device)
    rows = [_row(use) for use in uses]
    rotations = tuple(sorted({row.ints["rotation"] for row in rows}))
    gains = [row.level_floats[2] for row in rows]
    scaled = any(row.level_ints[0] for row in rows)

    def ints(values: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32).to(device)

    def floats(values: Sequence[Sequence[float]]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).to(torch.float32).to(device)

    return RecipeTable(
        _statics(rows)._replace(beside=0 if options is None else options.beside),
        rotations,
        _elementwise(rows),
        tuple(map(_content, rows)) if options is None and kept is None and all(map(_transposable, rows)) else None,
        _common(rows),
        any(row.drawn for row in rows),
        scaled,
        any(row.level_ints[0] == 2 for row in rows),
        ints([_pad([row.ints[name] for name in INT_FIELDS], _WIDTH) for row in rows]),
        floats([_pad([row.floats[name] for name in FLOAT_FIELDS], _WIDTH) for row in rows]),
        ints([row.signs for row in rows]),
        torch.tensor([row.drawn for row in rows], dtype=torch.int32).to(device),
        ints([_pad(row.level_ints, 4) for row in rows]),
        floats([_pad(row.level_floats, 4) for row in rows]),
        floats([(row.level_floats[1], 1.0) for row in rows]),
        None if scaled or all(g == 1 for g in gains) else floats([[g] for g in gains]).unsqueeze(-1),
        options,
        kept,
    )


def _elementwise(rows: Sequence[_Row]) -> str | None:
    kinds = {row.ints["kind"] for row in rows if row.ints["rotation"] == 1}
    if len(kinds) != 1 or any(row.ints["rotation"] > 1 for row in rows):
        return None
    return {0: "identity", 1: "bf16"}.get(kinds.pop())


def _common(rows: Sequence[_Row]) -> tuple[int, ...] | None:
    """See ``RecipeTable.common``."""
    found = {
        (
            *(int(row.ints[name]) for name in INT_FIELDS),
            *(_float_bits(row.floats[name]) for name in FLOAT_FIELDS),
            int(row.nan_scales and row.ints["man"] >> 23 <= 6),
            -1 if row.drawn else row.signs[0],
        )
        for row in rows
    }
    return found.pop() if len(found) == 1 else None


def _transposable(row: _Row) -> bool:
    """Whether f(X^T) = f(X)^T: square tiles, no rotation, and neither random bits nor a memory, which a point owns."""
    square = row.ints["block"] == row.ints["tile"] and row.ints["mode"] % 2 == 0 and row.ints["scale_mode"] != 2
    return row.ints["rotation"] == 1 and (row.ints["kind"] < 2 or (square and row.level_ints[0] < 2))


def _content(row: _Row) -> object:
    """What two rows are compared by."""
    kind = row.ints["kind"]
    return kind if kind < 2 else (*row.ints.values(), *row.floats.values(), *row.level_ints, *row.level_floats)


def _pad(values: Sequence[float] | Sequence[int], width: int) -> list:  # type: ignore[type-arg]
    return [*values, *[0] * (width - len(values))]


def _statics(rows: Sequence[_Row]) -> Statics:
    blocks = [row.ints for row in rows if row.ints["kind"] == 2]
    rotation = max(row.ints["rotation"] for row in rows)
    return Statics(
        rotates=rotation > 1,
        stages=max(rotation.bit_length() - 5, 0),
        blocks=max((r["block"].bit_length() - 5 for r in blocks), default=0),
        tiles=max((r["tile"].bit_length() - 1 for r in blocks), default=0),
        encode=any(r["convention"] & 1 for r in blocks),
        random=any(r["mode"] == 1 for r in blocks),
        wide=any(r["mode"] == 3 for r in blocks),
        threshold=any(r["mode"] == 2 for r in blocks),
        scale_random=any(r["scale_mode"] == 2 for r in blocks),
    )


def _row(use: Use) -> _Row:
    quantizer, rotation = use
    q = quantizer if isinstance(quantizer, BlockQuantizer) else BlockQuantizer(E2M1, E8M0, 16)  # unused then
    mode, bits, threshold, offset = _rounding(q.rounding)
    scale_mode, scale_bits, scale_threshold, scale_offset = _rounding(q.scale_rounding)
    convention = q.convention
    assert isinstance(convention, (Decode, Encode))
    c = q.element.max if q.constant is None else q.constant
    ints = {
        "kind": 2 if q is quantizer else 1 if isinstance(quantizer, BFloat16) else 0,
        "rotation": 1 if rotation is None else rotation.size,
        "block": q.block,
        "tile": q.tile,
        "mode": mode if mode != 1 or bits <= 8 else 3,
        "emin": q.element.emin + 127 << 23,
        "man": q.element.man << 23,
        "bits": bits,
        "scale_mode": (0, 2, 1)[scale_mode],
        "scale_emin": _float_bits(2.0**q.scale.emin),
        "scale_man": q.scale.man << 23,
        "scale_bits": scale_bits,
        "convention": isinstance(convention, Encode)
        | (convention.encode_with == "unquantized") << 1
        | bool(getattr(convention, "divisor", False)) << 2,
    }
    floats = {
        "max": q.element.max,
        "threshold": threshold,
        "offset": offset,
        "scale_max": q.scale.max,
        "scale_low": 0.0 if q.scale.subnormals else q.scale.smallest,
        "scale_threshold": scale_threshold,
        "scale_offset": scale_offset,
        "zero": {"flush": 0.0, "smallest": q.scale.smallest, "one": 1.0}[convention.zero],
        "gain": q.gain,
        "rotation_factor": 1.0 if rotation is None else 1 / math.sqrt(rotation.size),
        "c": c,
    }
    signs, drawn = _signs(rotation) if isinstance(rotation, Hadamard) else (_spread(0), 0)
    finite = q.element.max / q.gain * convention.largest(q.scale) <= torch.finfo(torch.float32).max
    nan_scales = finite or (q.tensor_scale is None and type(convention) is Decode and not ints["convention"])
    return _Row(ints, floats, signs, drawn, nan_scales, *_level(quantizer, c))


def _rounding(rounding: Rounding) -> tuple[int, int, float, float]:
    """(mode, random bits, threshold of the fraction, offset): 0 nearest-even, 1 stochastic, 2 by threshold."""
    if isinstance(rounding, Stochastic):
        return 1, rounding.bits, _NEVER, 0.0
    if isinstance(rounding, NearestEven):
        return 0, 0, _NEVER, 0.0
    if isinstance(rounding, MantissaEven):
        return 2, 0, _NEVER, 2.0 ** -(rounding.mantissa + 1)
    threshold = 0.5 if isinstance(rounding, NearestAway) else _ALWAYS if isinstance(rounding, AwayFromZero) else _NEVER
    return 2, 0, threshold, 0.0


def _signs(rotation: Hadamard) -> tuple[list[int], int]:
    if rotation.signs == "random":
        return _spread(0), 1
    if rotation.signs == "none":
        return _spread(0), 0
    mask = sum((TE_MINUS >> i % min(rotation.size, 16) & 1) << i for i in range(16))
    return _spread(mask), 0


def _spread(mask: int) -> list[int]:
    """The same 16 signs for every group, and as numbers: see ``RecipeTable.signs``."""
    return [mask] * _WORDS + [_MINUS if mask >> i & 1 else _ONES for i in range(16)]


def _level(quantizer: object, c: float) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """(mode, every, convention) and (T c, 1 / c, 1 / gain) of the tensor scale: device.peaks.level_kernel.

    1 for 1 / c where candidates or blocks have a factor of their own.
    """
    if not isinstance(quantizer, BlockQuantizer):
        return (0, 1, 0), (1.0, 1.0, 1.0)
    scale, encode = quantizer.tensor_scale, isinstance(quantizer.convention, Encode)
    divisor = encode and getattr(quantizer.convention, "divisor", False)
    mode = 0 if scale is None or not scale.tensor_wide else 2 if isinstance(scale, Delayed) else 1
    own = quantizer.scale.max if quantizer.scale.exp < 8 else 1.0
    target = (None if scale is None else scale.target) or own
    every = scale.every if isinstance(scale, Delayed) else 1
    inverse = 1.0 if quantizer.choice is not None or (mode == 0 and scale is not None) else 1.0 / c
    return (mode, every, encode + divisor), (target * c, inverse, undone(quantizer))


def _float_bits(value: float) -> int:
    """The bits of a float32."""
    return int(struct.unpack("<i", struct.pack("<f", value))[0])
