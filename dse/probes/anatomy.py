"""What a quantizer makes of an operand, taken apart: elements, saturation, block scales."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, where

from dse.numerics.block import _ELEMENT_DRAW, BlockQuantizer, _draw
from dse.numerics.cast import cast
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.choices import Candidate

_BEYOND = 1 + 2.0**-20
"""Elements beyond the largest by less than this are FP32 rounding of the block's own maximum."""


class Anatomy(NamedTuple):
    """f(X) of an operand [..., R, K], and its parts; None where the quantizer has no blocks.

    ``elements`` [..., R, K]: the elements' lattice values, without scales; ``decode`` [..., R, K]: the factor that a
    block's scale decodes with, without tensor scale; ``saturated`` bool [..., R, K]: cast from beyond the largest
    element; ``scales`` [..., n]: ``decode`` once per block.
    """

    quantized: Quantized
    elements: Tensor | None = None
    decode: Tensor | None = None
    saturated: Tensor | None = None
    scales: Tensor | None = None


class _Part(NamedTuple):
    """Of one candidate, in blocks [..., R/t, t, K/b, b]."""

    values: Tensor
    elements: Tensor
    decode: Tensor
    saturated: Tensor
    alpha: Tensor | None


def dissect(quantizer: Quantizer, x: Tensor, key: Key) -> Anatomy:
    """``x`` [..., R, K]; held tensor scales are read and left alone. Where outliers are split off: of the main part."""
    key = replace(key, sampling=False)
    quantized = quantizer(x, key)
    if not isinstance(quantizer, BlockQuantizer) or not x.numel():
        return Anatomy(quantized)
    main = x if quantizer.outliers is None else quantizer.outliers.split(x).quantized[0]
    rows, columns = main.shape[-2:]
    part = _taken_apart(quantizer, main, key)

    def matrix(blocks: Tensor) -> Tensor:
        flat: Tensor = blocks.flatten(-2).flatten(-3, -2)[..., :rows, :columns]
        return flat

    scales = part.decode[..., :1, :, :1].flatten(-4)
    return Anatomy(quantized, matrix(part.elements), matrix(part.decode), matrix(part.saturated), scales)


def _taken_apart(quantizer: BlockQuantizer, x: Tensor, key: Key) -> _Part:
    """The block quantizer's own steps with its own random bits; of several candidates the chosen one's parts."""
    blocks = quantizer._blocked(x)
    z = quantizer._measured(x, blocks)
    level = quantizer._level(blocks, z, key)
    bits = _draw(quantizer.rounding, blocks, key, _ELEMENT_DRAW)

    def part(how: Candidate) -> _Part:
        factors = quantizer.factors(z, level, how, key)
        u = quantizer._scaled(blocks, factors, how)
        q = cast(u, how.element, quantizer.rounding, quantizer.slope, bits)
        values = q * factors.decode
        if how.gain != 1:
            q, values = q * (1 / how.gain), values * (1 / how.gain)
        beyond = u.abs() > how.element.max * _BEYOND
        return _Part(values, q, factors.decode.expand_as(blocks), beyond, factors.alpha)

    candidates = quantizer._candidates()
    best = part(candidates[0])
    if quantizer.choice is None:
        return best
    for how in candidates[1:]:
        other = part(how)
        better = quantizer._closer(other.values, best.values, blocks, best.alpha)
        best = _Part(
            where(better, other.values, best.values),
            where(better, other.elements, best.elements),
            where(better, other.decode, best.decode),
            where(better, other.saturated, best.saturated),
            best.alpha,
        )
    return best
