"""HQ-DiT: a layer's floating-point format follows the range of its weights, and GPTQ rounds to that format's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log2

from torch import Tensor

from dse.errors import OptionError, nearest
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import Format
from dse.numerics.gemm import Gemm
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.quantizer import Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.post.fpq import floats
from dse.numerics.techniques.post.gptq import Gptq
from dse.numerics.techniques.post.operands import PostOperands

_FORMATS = ("ratio", "mse", "given")


@dataclass(frozen=True)
class HqDit(Gptq):
    """GPTQ under the format ExMy, of the width of W's elements, whose range is nearest to that of a layer's weights.

    ``formats`` 'ratio': the f of the smallest |log2(max |W| / q) - log2(max f / min f)|, q the ``quantile`` of |W| over
    weights that are not 0, min f the smallest positive value (E3M0 64, E2M1 12, E1M2 7); 'mse': the f whose rounding to
    nearest has the smallest squared error of W; 'given': the recipe's. The first of equals wins, from the longest
    mantissa. Clips are at the maxima. W is looked at after balance and rotation; the published system rotates
    (``fprop.rotation: {hadamard: {signs: random}}``, online, as AdaLN leaves no gain to fold it into), and has one
    scale per output channel of W and one per token of X.

    The paper's code is not public and the quantile was not to be had: 0.25 is ours.

    Cost: none at inference beyond the rotation; two bits per layer. Source: arXiv 2405.19751 (HQ-DiT), Sec. 3.
    Raises OptionError for what GPTQ refuses, an unknown word and a quantile outside [0, 1).
    """

    formats: str = "ratio"
    quantile: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.formats not in _FORMATS:
            raise OptionError(f"hqdit.formats cannot be {self.formats!r}{nearest(self.formats, _FORMATS)}")
        if not 0 <= self.quantile < 1:
            raise OptionError(f"hqdit.quantile must lie in [0, 1), not {self.quantile}")

    def check(self, quantizer: Quantizer) -> None:
        super().check(quantizer)
        assert isinstance(quantizer, BlockQuantizer)
        if self.formats == "given":
            return
        element, names = quantizer.element, [fmt.name for fmt in floats(quantizer.element.bits)]
        if element.name not in names:
            raise OptionError(f"post: hqdit chooses among {', '.join(names)}, and fprop.rhs.element is {element.name}")
        if quantizer.choice is not None:
            raise OptionError("post: hqdit chooses one format per layer, and fprop.rhs.choice one per block")
        if quantizer.constant not in (None, element.max):
            raise OptionError("post: hqdit maps maxima to each format's largest value; set fprop.rhs.constant: none")

    def make(self, gemm: Gemm, w: Tensor, inputs: InputStatistics | None, key: Key) -> PostOperands:
        if not isinstance(gemm.rhs, BlockQuantizer) or self.formats == "given":
            return super().make(gemm, w, inputs, key)
        element = self._chosen(gemm.rhs, w, key)
        own = replace(gemm.rhs, element=element, constant=None)
        return super().make(replace(gemm, rhs=own), w, inputs, key)._replace(element=element)

    def _chosen(self, quantizer: BlockQuantizer, w: Tensor, key: Key) -> Format:
        candidates = floats(quantizer.element.bits)
        if self.formats == "ratio":
            return self._of_ratio(candidates, w)

        def error(fmt: Format) -> float:
            made = replace(quantizer, element=fmt, constant=None)(w, key).dequantize()
            return float((made - w).double().square().sum())

        return min(candidates, key=error)

    def _of_ratio(self, candidates: Sequence[Format], w: Tensor) -> Format:
        sizes = w.abs().double().flatten()
        sizes = sizes[sizes > 0].sort().values
        if not len(sizes):
            return candidates[0]
        low = sizes[int(self.quantile * (len(sizes) - 1))]
        ratio = float((sizes[-1] / low).log2())
        return min(candidates, key=lambda fmt: abs(ratio - log2(fmt.max / fmt.smallest)))


__all__ = ["HqDit"]
