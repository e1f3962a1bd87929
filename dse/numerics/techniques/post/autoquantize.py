"""AutoQuantize: a format for every layer, so that the sum of their sensitivities is smallest under a budget of bits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from dse.errors import OptionError, nearest
from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.ops import Ops
from dse.numerics.quantizer import BFloat16, Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.post.base import PostTraining
from dse.numerics.techniques.post.rtn import Rtn

SCORES = ("gradient", "output")
_PARTS = ("balance", "scales", "branch")


class LayerFormat(NamedTuple):
    """A forward GEMM that a layer may have, and the method that rounds its weights."""

    gemm: Gemm
    method: PostTraining


@dataclass(frozen=True)
class AutoQuantize(PostTraining):
    """Each layer has the recipe's forward GEMM or one of ``formats``: the choice with the smallest sum of scores.

    ``bits``: the budget, the mean over all weights of the bits of elements, scales and what is stored beside.
    ``formats``: quantizers that W and X of a layer may have instead of the recipe's; the rotation stays where they
    have blocks. ``score`` of a layer under a format, dY what the format alone changes of the layer's output, over
    ``batches`` of calibration data: 'gradient': the sum of (dL/dY)^2 dY^2, the loss's second-order term with the
    squared gradient (Fisher's information, its diagonal) for the Hessian; 'output': ||dY||^2 / ||Y||^2, which needs no
    loss. The choice is an integer program, solved exactly; layers that the recipe leaves (rules, ``exempt``) count with
    their 16 bits. ``method`` rounds weights in every format with blocks, by default to nearest; ``balance``, ``scales``
    and ``branch`` are its.

    Scores are sums over layers, as if their errors did not meet. Model-Optimizer counts elements alone as bits, which
    makes NVFP4's 4.5 bits 4; here scales count, as they do in ``bits_per_weight``.

    Cost: of the formats; no other at inference. Sources: arXiv 2410.06722 (shares of the weights at two precisions),
    NVIDIA Model-Optimizer, quantization/algorithms.py, ``AutoQuantizeGradientSearcher`` (scores and program). Raises
    OptionError for bits that are not positive, no format or one twice, an unknown score, and a ``method`` that is a
    search itself or takes other batches.
    """

    bits: float = 6.0
    formats: tuple[Quantizer, ...] = (BFloat16(),)
    score: str = "gradient"
    method: PostTraining | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.bits < float("inf"):
            raise OptionError(f"autoquantize.bits must be positive and finite, not {self.bits}")
        if not self.formats or len(set(self.formats)) < len(self.formats):
            raise OptionError("autoquantize.formats must be one or more formats, each of them once")
        if self.score not in SCORES:
            raise OptionError(f"autoquantize.score cannot be {self.score!r}{nearest(self.score, SCORES)}")
        if isinstance(self.method, AutoQuantize):
            raise OptionError("autoquantize.method is what rounds weights, and no other search")
        if self.method is not None and self.method.batches not in (type(self.method)().batches, self.batches):
            raise OptionError("autoquantize.method.batches: write autoquantize.batches, which all share")

    @property
    def rounding(self) -> PostTraining:
        """What rounds the weights in formats with blocks."""
        method = Rtn() if self.method is None else self.method
        own = {name: part for name in _PARTS if (part := getattr(self, name)) is not None}
        return replace(method, **own) if own else method

    @property
    def calibrates(self) -> bool:
        return self.rounding.calibrates

    @property
    def keeps(self) -> int:
        return self.rounding.keeps

    def candidates(self, gemm: Gemm) -> tuple[LayerFormat, ...]:
        """What a layer with a forward GEMM may have, its own first; its own alone where its W has no blocks."""
        if not isinstance(gemm.rhs, BlockQuantizer):
            return (LayerFormat(gemm, Rtn()),)
        return (LayerFormat(gemm, self.rounding), *(self._other(gemm, quantizer) for quantizer in self.formats))

    def _other(self, gemm: Gemm, quantizer: Quantizer) -> LayerFormat:
        if isinstance(quantizer, BlockQuantizer):
            return LayerFormat(replace(gemm, lhs=quantizer, rhs=quantizer), self.rounding)
        return LayerFormat(replace(gemm, lhs=quantizer, rhs=quantizer, rotation=None), Rtn())

    def check_gemm(self, gemm: Gemm) -> None:
        super().check_gemm(gemm)
        for name in _PARTS:
            if getattr(self, name) is not None and getattr(self.method, name, None) is not None:
                raise OptionError(f"post: {name} is said twice: beside autoquantize.method and in it")
        found = self.candidates(gemm)
        for own, method in found:
            if isinstance(own.rhs, BlockQuantizer):
                method.check_gemm(own)
        widths = [own.rhs.element.bits for own, _ in found if isinstance(own.rhs, BlockQuantizer)]
        if self.bits < min(widths):
            raise OptionError(
                f"post: autoquantize.bits is {self.bits:g}, and the narrowest format has elements of {min(widths)}"
            )

    def beside(self, gemm: Gemm, outputs: int, inputs: int) -> int:
        return self.rounding.beside(gemm, outputs, inputs)

    def ops(self) -> Ops:
        return self.rounding.ops()

    def quantize(self, quantizer: Quantizer, w: Tensor, inputs: InputStatistics | None, key: Key) -> Quantized:
        return self.rounding.quantize(quantizer, w, inputs, key)


def candidates(method: PostTraining, gemm: Gemm) -> tuple[LayerFormat, ...]:
    """What a layer may have under a method: one forward GEMM, or several where the method searches."""
    return method.candidates(gemm) if isinstance(method, AutoQuantize) else (LayerFormat(gemm, method),)


__all__ = ["SCORES", "AutoQuantize", "LayerFormat", "candidates"]
