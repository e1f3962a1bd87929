"""What choices, statistics and outer scales add to a row of the table: see dse.kernels.device.block_quantizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dse.fused.block_numbers import block_row, float_bits, scale_codes
from dse.fused.device_code import ERRORS, StatisticCode, candidates, correction_code, statistic_code, undone
from dse.fused.support import Use, in_groups, structure
from dse.numerics.block import BlockQuantizer
from dse.numerics.techniques.tensor_scales import Outer
from dse.numerics.value_formats import ValueFormat, cuts

OF_ROWS = -2
"""In the place of log2 of blocks: outer scales of whole rows."""
_SHORT = 6
"""Mantissa bits of an element format whose stochastic rounding is compiled in."""


@dataclass(frozen=True, eq=False)
class BlockOptions:
    """Of E members of one ``structure``.

    ``how``: candidates, the measure of their errors, whether they differ in scale codes, log2 of blocks under an outer
    scale (-1: none, -2: all of a row), sums that the ``statistic`` takes; of a correction log2 of the blocks that it
    takes together (-1: none), its random bits, and whether in units of elements; sizes of parts with micro-exponents,
    added up; places in a half of the longest list of values (0: formats are none), and how many halves a list has, 1
    where the negatives of all values are the values. ``fields`` int32 [E, 10 + (10 + 2 places halves) C], floats as
    their bits: the outer scale's target, the statistic's two
    numbers, the constant that Z is divided by (0: none), 1 / gain, the scale format's last code, 1 / smallest and first
    code, 1 / c, and whether a candidate's NaN always meets a NaN scale; then of each candidate emin, mantissa, codes,
    whether its infinities become NaN, the largest value, c, 1 / c (1 where Z is divided), what the quotient is
    multiplied by, gain and 1 / gain; then of each candidate's halves the cuts of its places, the first one 0, and their
    values, both continued by infinities. ``common``: the row that all have, or None.
    """

    how: tuple[int, ...]
    statistic: StatisticCode
    fields: Tensor
    common: tuple[int, ...] | None

    @property
    def beside(self) -> int:
        """log2 of blocks side by side that depend on each other."""
        return max(0, self.how[3], self.how[5])

    @property
    def of_rows(self) -> bool:
        """Whether outer scales are those of whole rows."""
        return self.how[3] == OF_ROWS


def block_options(uses: Sequence[Use], device: torch.device | str) -> BlockOptions | None:
    """None where no use needs them."""
    if not any(in_groups(use) for use in uses):
        return None
    quantizers = [use.quantizer for use in uses if isinstance(use.quantizer, BlockQuantizer)]
    if len({structure(use) for use in uses}) > 1:
        raise ValueError("no launch for operands of several structures")
    shape = _lists(quantizers)
    rows = [_row(q, shape) for q in quantizers]
    first = quantizers[0]
    how = (
        len(candidates(first)),
        0 if first.choice is None else ERRORS[first.choice.error],
        int(any(own.codes for q in quantizers for own in candidates(q))),
        _outer(first),
        statistic_code(first).sums,
        *_correction(first),
        sum(first.micro_exponents),
        *shape,
    )
    fields = torch.tensor(rows, dtype=torch.int32).to(device)
    return BlockOptions(how, statistic_code(first), fields, rows[0] if len(set(rows)) == 1 else None)


def _correction(q: BlockQuantizer) -> tuple[int, int, int]:
    code = correction_code(q)
    if code is None:
        return -1, 0, 0
    return max(1, code.group // q.block).bit_length() - 1, code.bits, int(code.elements)


def _outer(q: BlockQuantizer) -> int:
    if not isinstance(q.tensor_scale, Outer):
        return -1
    return q.tensor_scale.blocks.bit_length() - 1 if q.tensor_scale.blocks else OF_ROWS


def _lists(quantizers: Sequence[BlockQuantizer]) -> tuple[int, int]:
    """Places and halves of the lists of values that are element formats."""
    formats = [own.element for q in quantizers for own in candidates(q)]
    lists = [fmt for fmt in formats if isinstance(fmt, ValueFormat)]
    places = max((len(half) for fmt in lists for half in fmt.halves), default=0)
    return places, 1 if all(fmt.even for fmt in lists) else 2


def _row(q: BlockQuantizer, lists: tuple[int, int]) -> tuple[int, ...]:
    hows = [_candidate(q, number) for number in range(len(candidates(q)))]
    short = all(own.element.man <= _SHORT for own in candidates(q)) and all(how[3] for how in hows)
    own = block_row(q)
    target, base, c = own.candidate_floats[0][3], own.candidate_floats[0][4], own.candidate_floats[0][1]
    head = [target, *statistic_code(q).numbers, base, undone(q)]
    fields = [*map(float_bits, head), *scale_codes(q.scale), float_bits(1 / c), int(short)]
    return tuple(fields + [field for how in hows for field in how] + _values(q, *lists))


def _values(q: BlockQuantizer, places: int, halves: int) -> list[int]:
    """Cuts and values of the halves of each candidate's list."""
    found: list[float] = []
    for fmt in (own.element for own in candidates(q)):
        if isinstance(fmt, ValueFormat):
            for cut, half in list(zip(cuts(fmt, q.rounding), fmt.halves, strict=True))[:halves]:
                found += [*_padded([0.0, *cut], places), *_padded([abs(v) for v in half], places)]
    return [float_bits(value) for value in found]


def _padded(values: Sequence[float], places: int) -> list[float]:
    return [*values, *[math.inf] * (places - len(values))]


def _candidate(q: BlockQuantizer, number: int) -> list[int]:
    own = block_row(q)
    emin, man, codes, hides, *_ = own.candidate_ints[number]
    largest, c, inverse, _, base, ratio, gain, inverse_gain = own.candidate_floats[number]
    numbers = (largest, c, 1.0 if base else inverse, ratio, gain, inverse_gain)
    return [emin, man, codes, hides, *map(float_bits, numbers)]
