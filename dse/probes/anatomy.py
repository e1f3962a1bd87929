"""A quantized operand as probes read it: elements, saturation and block scales, laid out as the operand is."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.block_trace import BlockTrace
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key

_BEYOND = 1 + 2.0**-20
"""Elements beyond the largest by less than this are FP32 rounding of the block's own maximum."""


class Anatomy(NamedTuple):
    """f(X) of an operand [..., R, K], and its parts; None where the quantizer has no blocks.

    ``elements`` [..., R, K]: the elements, without scales and gain; ``decode`` [..., R, K]: the factor that a
    block's scale decodes with, without tensor scale; ``saturated`` bool [..., R, K]: cast from beyond the largest
    element; ``scales`` [..., n]: ``decode`` once per block.
    """

    quantized: Quantized
    elements: Tensor | None = None
    decode: Tensor | None = None
    saturated: Tensor | None = None
    scales: Tensor | None = None


def dissect(quantizer: Quantizer, x: Tensor, key: Key) -> Anatomy:
    """``x`` [..., R, K]; held tensor scales are read and left alone. Where outliers are split off: of the main part."""
    key = replace(key, sampling=False)
    if not isinstance(quantizer, BlockQuantizer) or not x.numel():
        return Anatomy(quantizer(x, key))
    trace = quantizer.trace(x, key)
    decode, elements = trace.factors.decode, trace.elements
    if any(candidate.gain != 1 for candidate in trace.candidates):
        elements = elements * _of_the_chosen(trace, [1 / candidate.gain for candidate in trace.candidates])
    largest = _of_the_chosen(trace, [candidate.element.max * _BEYOND for candidate in trace.candidates])
    return Anatomy(
        trace.quantized,
        trace.matrix(elements),
        trace.matrix(decode),
        trace.matrix(trace.scaled.abs() > largest),
        decode[..., :1, :, :1].flatten(-4),
    )


def _of_the_chosen(trace: BlockTrace, values: list[float]) -> Tensor:
    """The value of each block's candidate, one per block, from one per candidate."""
    return tensor(values, dtype=trace.blocks.dtype, device=trace.blocks.device)[trace.chosen]
