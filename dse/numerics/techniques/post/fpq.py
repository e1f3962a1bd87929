"""FPQ of LLM-FP4: format and clip of floating point are searched by a layer's output, for weights and activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, FP32, Format
from dse.numerics.gemm import Gemm
from dse.numerics.grid import round_to_grid
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.quantizer import Identity, Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.post.base import PostTraining
from dse.numerics.techniques.post.operands import PostOperands, StaticInput

_LEAST, _MOST = 0.01, 1.2
"""Clips that are searched, in maxima."""


@dataclass(frozen=True)
class Fpq(PostTraining):
    """W under one FP32 scale per output channel, X under one for the tensor; format and clip minimize ||X W^T - Y||^2.

    An element's scale is its clip over the format's largest value, which is what a real exponent bias says. Both are
    searched on ``rows`` rows, spread evenly over the calibration data: for W, per output channel, over all formats
    ExMy of its width and ``candidates`` clips from .01 to 1.2 maxima, given f(X); then for X given f(W); ``rounds``
    times. A layer has one format for W and one for X, and keeps what it has unless another is better. ``formats``
    false: the recipe's formats. ``rounds: 0`` is MinMax: no search, clips at the maxima. Maxima of X are those of all
    calibration data, and after a rotation those of the rows that the search looks at.

    ``shifts``: features of X get power-of-two factors first, c_j = 2^min(round(log2(max |X| / max |X_j|)), 2^e - 1),
    which hardware adds to the exponents of their weights (pre-shifted exponent bias); without them it is FPQ-baseline.

    The released code multiplies the bias itself by its candidates, which for a negative bias turns the search round,
    and forgets a format's clip when it tries another; here clips are multiplied, and format and clip are one search.
    Weights that are shifted are taken to have the exponent range for it, as in the paper.

    Cost: none beyond one scale of X that is known before. Source: arXiv 2310.16836 (LLM-FP4), Sec. 3 and 4.
    Raises OptionError for candidates below 2, negative rounds and rows below 1.
    """

    shifts: bool = True
    rounds: int = 3
    candidates: int = 100
    rows: int = 256
    formats: bool = True
    data: ClassVar[bool] = True
    arithmetic: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("candidates", 2), ("rounds", 0), ("rows", 1)):
            if getattr(self, name) < least:
                raise OptionError(f"fpq.{name} must be at least {least}, not {getattr(self, name)}")

    @property
    def keeps(self) -> int:
        return self.rows

    def check(self, quantizer: Quantizer) -> None:
        super().check(quantizer)
        for name in ("scales", "branch"):
            if getattr(self, name) is not None:
                raise OptionError(f"post.{name}: fpq searches the scales of W and X itself; take rtn or gptq with it")
        _check_layout(quantizer, "fprop.rhs", "per output channel", 1)

    def check_gemm(self, gemm: Gemm) -> None:
        super().check_gemm(gemm)
        if isinstance(gemm.lhs, BlockQuantizer):
            _check_layout(gemm.lhs, "fprop.lhs", "of the tensor", 0)

    def beside(self, gemm: Gemm, outputs: int, inputs: int) -> int:
        return 8 * inputs if self.shifts and isinstance(gemm.lhs, BlockQuantizer) else 0

    def make(self, gemm: Gemm, w: Tensor, inputs: InputStatistics | None, key: Key) -> PostOperands:
        assert inputs is not None
        assert isinstance(gemm.rhs, BlockQuantizer)
        x, wide = inputs.first(self.rows), w.double()
        weight = _Clipped.rows(wide, gemm.rhs.element)
        if not isinstance(gemm.lhs, BlockQuantizer):
            for _ in range(min(self.rounds, 1)):
                weight = self._weight(weight, wide, x, gemm.lhs(x).dequantize())
            return PostOperands(Quantized(weight(wide).to(w.dtype)), element=weight.element)
        peaks = inputs.peaks
        shift = self._shift(peaks, gemm.lhs.element) if self.shifts else torch.ones_like(peaks)
        shifted, largest = x * shift, (peaks * shift).max()
        clipped = _Clipped.at(peaks.max(), gemm.lhs.element)
        for _ in range(self.rounds):
            weight = self._weight(weight, wide, x, clipped(shifted) / shift)
            clipped = self._input(clipped, shifted, largest, x @ wide.mT, weight(wide) / shift)
        static = StaticInput(clipped.element, clipped.scale.to(w.dtype).reshape(1, 1), shift.to(w.dtype))
        return PostOperands(Quantized(weight(wide).to(w.dtype)), static, element=weight.element)

    def quantize(self, quantizer: Quantizer, w: Tensor, inputs: InputStatistics | None, key: Key) -> Quantized:
        return self.make(Gemm(Identity(), quantizer), w, inputs, key).weight

    def _shift(self, peaks: Tensor, element: Format) -> Tensor:
        """c [K]."""
        exponent = (peaks.max() / peaks).log2().round().clamp(0, 2**element.exp - 1)
        return torch.exp2(torch.where(peaks > 0, exponent, 0.0))

    def _weight(self, now: _Clipped, w: Tensor, x: Tensor, fx: Tensor) -> _Clipped:
        """W's best format and its clips per channel, given f(X); errors by Gram matrices, so rows cost nothing."""
        cross, own = w @ (x.mT @ fx), fx.mT @ fx  # [N, K], [K, K]

        def error(some: _Clipped) -> Tensor:
            f = some(w)
            return (f * (f @ own - 2 * cross)).sum(1, keepdim=True)  # but for a constant

        best, least = now, error(now).sum()
        for element in self._elements(now.element):
            found, lowest = now, torch.full_like(now.scale, torch.inf)
            for some in _Clipped.rows(w, element).multiplied(self.candidates):
                off = error(some)
                found = _Clipped(element, torch.where(off < lowest, some.scale, found.scale))
                lowest = torch.minimum(off, lowest)
            if lowest.sum() < least:
                best, least = found, lowest.sum()
        return best

    def _input(self, now: _Clipped, x: Tensor, largest: Tensor, y: Tensor, w: Tensor) -> _Clipped:
        """X's best format and clip, given f(W); ``x`` shifted and its ``largest`` magnitude, ``w`` shifted back."""

        def error(some: _Clipped) -> float:
            return float((some(x) @ w.mT - y).square().sum())

        best, least = now, error(now)
        for element in self._elements(now.element):
            for some in _Clipped.at(largest, element).multiplied(self.candidates):
                if (off := error(some)) < least:
                    best, least = some, off
        return best

    def _elements(self, element: Format) -> Sequence[Format]:
        return floats(element.bits) if self.formats else (element,)


@dataclass(frozen=True, eq=False)
class _Clipped:
    """A format and its scale, [N, 1] or [], float64."""

    element: Format
    scale: Tensor

    @classmethod
    def at(cls, largest: Tensor, element: Format) -> _Clipped:
        """Clipped at the largest magnitudes, [N, 1] or []; zeros have a scale of 1."""
        return cls(element, torch.where(largest > 0, largest / element.max, 1.0))

    @classmethod
    def rows(cls, x: Tensor, element: Format) -> _Clipped:
        """Clipped at the largest magnitude of each row."""
        return cls.at(x.abs().amax(1, keepdim=True), element)

    def multiplied(self, candidates: int) -> Sequence[_Clipped]:
        clips = torch.linspace(_LEAST, _MOST, candidates, dtype=torch.float64).tolist()
        return [_Clipped(self.element, self.scale * clip) for clip in clips]

    def __call__(self, x: Tensor) -> Tensor:
        return round_to_grid(x / self.scale, self.element) * self.scale


@lru_cache(maxsize=16)
def floats(bits: int) -> tuple[Format, ...]:
    """The signed formats ExMy of a width without infinities and NaN: of 4 bits all, of 8 bits those with M 2 to 6."""
    found = []
    for man in range(bits - 2, -1, -1) if bits < 8 else range(6, 1, -1):
        exp = bits - 1 - man
        bias = 2 ** (exp - 1) - 1
        largest = (2 - 2.0**-man) * 2.0 ** (2**exp - 1 - bias)
        own = Format(f"e{exp}m{man}", exp, man, bias, largest, source="arXiv 2310.16836 (LLM-FP4): no code reserved")
        known = ELEMENTS.get(own.name)
        found.append(known if known is not None and known.max == largest else own)
    return tuple(found)


def _check_layout(quantizer: Quantizer, point: str, what: str, tile: int) -> None:
    """Raises OptionError unless W has a scale per row, or X one for all, of FP32 and with nothing else."""
    assert isinstance(quantizer, BlockQuantizer)
    plain = BlockQuantizer(quantizer.element, FP32, block=0, tile=tile)
    if quantizer != plain:
        raise OptionError(
            f"post: fpq has one FP32 scale {what}; write {point}: {{block: {{element: {quantizer.element.name}, "
            f"scale: fp32, block: 0{', tile: 0' if tile == 0 else ''}}}}}"
        )
