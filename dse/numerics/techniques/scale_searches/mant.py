"""An element grid and a scale for each group of weights, by the error of the weights: M-ANT's adaptive type."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.fixed_scales import FixedScales
from dse.numerics.formats import Format
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.techniques.scale_searches.base import ScaleSearch
from dse.numerics.techniques.statistics import BLOCK
from dse.numerics.value_formats import ValueFormat

_CODES = 8
"""Magnitudes of a sign and three bits."""
_MOST = 127
"""The largest coefficient: seven bits."""
_ABOUT_A_GROUP = 8
"""Bits: a coefficient, and whether the group is of the recipe's own format."""


@dataclass(frozen=True)
class Mant(ScaleSearch):
    """Values +-(a i + 2^i), i = 0 ... 7, with the coefficient a of each group that has the smallest squared error of W.

    a = 0 are powers of two, a near 17 resembles a floating-point grid, a large a integers. A group's scale is Z over
    the grid's largest value, 7 a + 128, in the recipe's scale format. There is no zero: what is smaller than all values
    goes to the smallest, of its own sign; but groups of zeros stay zero. ``coefficients``: which a are tried;
    ``given``: the recipe's own element format (INT4 in the paper) too, and first; the first of equals wins.
    ``weighted``: each square counts h_j, the diagonal of X^T X, as if the other features were independent of it; false:
    all alike.

    The group is W's block, 64 in the paper, with activations of INT8 in groups as large. Of the paper's sixteen grids
    fifteen are coefficients, which were not to be had: those here are ours. The cache of keys and values, whose a is
    found from variances as tokens arrive, is not here.

    Cost: a byte per group beside its scale. Hardware can sum x i and x 2^i apart and join the sums by a after a group;
    here products are counted as those of other formats of 4 bits. Source: arXiv 2502.18755 (M-ANT). Raises OptionError
    without a coefficient and for one that is not an integer in 0 .. 127.
    """

    coefficients: tuple[int, ...] = (0, 5, 10, 17, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120)
    given: bool = True
    weighted: bool = False
    grids: ClassVar[bool] = True

    def __post_init__(self) -> None:
        own = self.coefficients
        if type(own) is not tuple or not own or not all(type(a) is int and 0 <= a <= _MOST for a in own):
            raise OptionError(f"mant.coefficients must be a list of integers in 0 .. {_MOST}, with one at least")

    @property
    def data(self) -> bool:
        return self.weighted

    def check(self, quantizer: BlockQuantizer) -> None:
        super().check(quantizer)
        if quantizer.element.bits != 4:
            raise OptionError(
                f"post.scales: mant has grids of 4 bits, and fprop.rhs.element is {quantizer.element.name}; set int4"
            )
        others = {
            "tensor_scale": quantizer.tensor_scale is not None,
            "micro_exponents": bool(quantizer.micro_exponents),
            "constant": quantizer.constant not in (None, quantizer.element.max),
            "gain": quantizer.gain != 1,
        }
        for name in (name for name, found in others.items() if found):
            raise OptionError(
                "post.scales: mant has one scale per group, its largest weight over the grid's; leave "
                f"fprop.rhs.{name} at its default"
            )

    def beside(self, quantizer: BlockQuantizer, outputs: int, inputs: int) -> int:
        tile, block = quantizer.block_shape(outputs, inputs)
        return _ABOUT_A_GROUP * -(-outputs // tile) * -(-inputs // block)

    def scales(self, quantizer: BlockQuantizer, w: Tensor, inputs: InputStatistics | None) -> FixedScales:
        own = (quantizer.element,) if self.given else ()
        grids: tuple[Format, ...] = (*own, *map(mant_format, self.coefficients))
        best: FixedScales | None = None
        least = torch.empty(0)
        for number, grid in enumerate(grids):
            trace = replace(quantizer, element=grid, constant=None).trace(w)
            squares = (trace.values.double() - trace.blocks.double()).square() * self._weights(trace.blocks, w, inputs)
            error = squares.sum(BLOCK, keepdim=True)
            made = FixedScales.traced(quantizer, trace)
            zeros = trace.matrix(trace.statistic == 0)
            decode = made.decode.masked_fill(zeros, 0.0)
            made = replace(made, elements=grids, decode=decode, chosen=torch.full_like(made.chosen, number))
            best = made if best is None else best.where(trace.matrix(error < least), made)
            least = error if number == 0 else torch.minimum(error, least)
        assert best is not None
        return best

    def _weights(self, blocks: Tensor, w: Tensor, inputs: InputStatistics | None) -> Tensor:
        """h in blocks, 0 in their padding."""
        h = torch.ones_like(w[0], dtype=torch.float64)
        if self.weighted:
            assert inputs is not None
            h = inputs.gram.diagonal()
        padded = pad(h, (0, blocks.shape[-2] * blocks.shape[-1] - len(h)))
        return padded.reshape(1, *blocks.shape[-2:])


def mant_format(a: int) -> ValueFormat:
    """The grid of a coefficient: sixteen values, none of them 0."""
    values = [float(a * i + 2**i) for i in range(_CODES)]
    whole = (*(-v for v in reversed(values)), *values)
    source = "arXiv 2502.18755 (M-ANT)"
    return ValueFormat(f"mant({a})", 0, 0, 0, values[-1], subnormals=False, source=source, values=whole)


__all__ = ["Mant", "mant_format"]
