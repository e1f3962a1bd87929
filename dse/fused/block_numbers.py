"""One quantizer's numbers for the kernels of blocks: see dse.kernels.device.block_factors."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dse.fused.device_code import LEVELS, candidates, statistic_code, undone
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import Format
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


@dataclass(frozen=True)
class BlockRow:
    ints: list[int]
    floats: list[float]
    candidate_ints: list[list[int]]
    candidate_floats: list[list[float]]


def block_row(q: BlockQuantizer) -> BlockRow:
    mode, bits, threshold, offset = _rounding(q.rounding)
    scale_mode, scale_bits, scale_threshold, scale_offset = _rounding(q.scale_rounding)
    encode = isinstance(q.convention, Encode)
    level = 0 if q.tensor_scale is None else LEVELS[type(q.tensor_scale)]
    every = q.tensor_scale.every if isinstance(q.tensor_scale, Delayed) else 1
    zero = {"flush": 0.0, "smallest": q.scale.smallest, "one": 1.0}[q.convention.zero]
    ints = [
        mode, bits, (0, 2, 1)[scale_mode], float_bits(2.0**q.scale.emin), q.scale.man << 23, scale_bits, encode,
        q.convention.encode_with == "unquantized", level, bool(getattr(q.convention, "divisor", False)), every,
        0, *scale_codes(q.scale), 0,
    ]  # fmt: skip
    floats = [
        threshold, offset, q.scale.max, 0.0 if q.scale.subnormals else q.scale.smallest, scale_threshold, scale_offset,
        zero, q.gain, undone(q), *statistic_code(q).numbers, *[0.0] * 5,
    ]  # fmt: skip
    hows = [_candidate(q, how) for how in candidates(q)]
    return BlockRow([int(i) for i in ints], floats, [how[0] for how in hows], [how[1] for how in hows])


def _candidate(q: BlockQuantizer, how: Candidate) -> tuple[list[int], list[float]]:
    """Numbers of one candidate, products and quotients in the order of ``BlockQuantizer._factors``."""
    own = candidates(q)[0].constant
    target, base = 0.0, 0.0
    if q.tensor_scale is not None:
        target = q.tensor_scale.target or (q.scale.max if q.scale.exp < 8 else 1.0)
        if q.choice is not None:
            target = target * own / how.constant
            base = own if q.choice.divides else 0.0
    hides = how.element.max * how.multiple * q.convention.largest(q.scale) <= torch.finfo(torch.float32).max
    upward, downward = map(len, how.element.halves) if isinstance(how.element, ValueFormat) else (0, 0)
    ints = [float_bits(2.0**how.element.emin), how.element.man << 23, how.codes, int(hides), upward, downward, 0, 0]
    c = how.constant
    floats = [how.element.max, c, 1.0 / c, target * c, base, base / c if base else 1.0, how.gain, how.multiple]
    return ints, floats


def _rounding(rounding: Rounding) -> tuple[int, int, float, float]:
    """(mode, random bits, threshold of the fraction, offset): 0 nearest-even, 1 stochastic, 2 by threshold."""
    if isinstance(rounding, Stochastic):
        return 1, rounding.bits, _NEVER, 0.0
    if isinstance(rounding, NearestEven):
        return 0, 0, _NEVER, 0.0
    return 2, 0, *THRESHOLDS.get(type(rounding), lambda r: (_NEVER, 0.0))(rounding)


def lane(rounding: Rounding) -> int:
    n = rounding.random_bits
    return 8 if n <= 8 else 16 if n <= 16 else 32


def short(fmt: Format) -> bool:
    """Whether nine fractional bits fit above the lattice, and the smallest step is a normal float."""
    return not isinstance(fmt, ValueFormat) and fmt.man <= 8 and fmt.emin - fmt.man >= -100 and fmt.emax <= 100


def scale_codes(scale: Format) -> tuple[int, int, int]:
    """(last code, bits of 1 / smallest, first code) of the positive numbers, in FP32's own codes where the bits are 0.

    Zeros for a format that has no codes to count.
    """
    if scale.exp + scale.man > 15:
        return 0, 0, 0
    own = scale.emin <= -126
    if own:
        return float_bits(scale.max) >> 23 - scale.man, 0, int(scale.subnormals)
    last = (float_bits(scale.max) - float_bits(2.0**scale.emin) >> 23 - scale.man) + (1 << scale.man)
    return last, float_bits(1 / scale.smallest), 1 if scale.subnormals else 1 << scale.man


def float_bits(value: float) -> int:
    """The bits of a float32."""
    return int(struct.unpack("<i", struct.pack("<f", value))[0])
