"""AdaRound on floating grids: whether a weight goes up or down is learned by the layer's output, as FP4DiT does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import Format
from dse.numerics.grid import floor_power
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.post.base import PostTraining
from dse.numerics.value_formats import ValueFormat

_LOW, _HIGH = -0.1, 1.1
"""Where the stretched sigmoid is cut to 0 and 1."""
_WARM, _FIRST, _LAST = 0.2, 20.0, 2.0
"""Share of the iterations without the regularizer, and its exponent afterwards, from the first to the last."""
_BETAS, _EPSILON = (0.9, 0.999), 1e-8
_END = 1 - 2.0**-20
"""Share of a grid's largest value from which a weight is at its end: scales are FP32 numbers."""


@dataclass(frozen=True)
class AdaRound(PostTraining):
    """W~ = low + h step with h in [0, 1] per weight, trained by Adam and at last rounded to 0 or 1.

    low and low + step are the neighbors of W on its grid, h = clip(1.2 sigmoid(V / s) - 0.1, 0, 1), and V starts where
    W~ = W. The objective is the mean over rows of ||X (W~ - W)^T||^2 plus, after the first fifth of the iterations,
    ``weight`` times the sum of 1 - |2 h - 1|^b, b falling from 20 to 2. ``scale_aware``: s is the distance of the two
    neighbors, which on a floating grid differs from weight to weight, so that small weights turn as readily as large
    ones; false: 1, as for integers. Scales are fixed before; weights at the grid's end stay there. Inner products
    come from X's Gram matrix, so that every iteration sees all calibration data. In FP64, without random numbers.

    Of FP4DiT this is the rounding of weights; its formats are rules of ``layers``, its activations one scale per token
    of a recipe with 6 bits. It reconstructs blocks of layers, here each layer is its own.

    Cost: none at inference. Sources: arXiv 2004.10568 (AdaRound), eq. 21 to 24; arXiv 2503.15465 (FP4DiT), scale-aware
    AdaRound. Raises OptionError for iterations below 1, a rate that is not positive and a negative weight.
    """

    iterations: int = 1000
    rate: float = 0.001
    weight: float = 0.01
    scale_aware: bool = True
    data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 1:
            raise OptionError(f"adaround.iterations must be at least 1, not {self.iterations}")
        if not 0 < self.rate < float("inf"):
            raise OptionError(f"adaround.rate must be positive and finite, not {self.rate}")
        if not 0 <= self.weight < float("inf"):
            raise OptionError(f"adaround.weight must be at least 0 and finite, not {self.weight}")

    def check(self, quantizer: Quantizer) -> None:
        super().check(quantizer)
        assert isinstance(quantizer, BlockQuantizer)
        several = quantizer.choice is not None or (self.scales is not None and self.scales.grids)
        if several or isinstance(quantizer.element, ValueFormat):
            raise OptionError(
                "post: adaround rounds to one format's grid; set fprop.rhs.choice: none, a format as its element, and "
                "no post.scales with grids"
            )

    def quantize(self, quantizer: Quantizer, w: Tensor, inputs: InputStatistics | None, key: Key) -> Quantized:
        if not isinstance(quantizer, BlockQuantizer):
            return quantizer(w, key)
        assert inputs is not None
        scales = self.fixed(quantizer, w, inputs)
        low, step = _neighbors(w.double() * scales.encode.double(), quantizer.element)
        unit = scales.decode.double() if scales.outer is None else scales.decode.double() * scales.outer.double()
        alpha = 1.0 if scales.alpha is None else scales.alpha.double().reshape(())
        up = self._learned(w.double(), low * unit * alpha, step * unit * alpha, inputs)
        return Quantized(((low + step * up) * unit).to(w.dtype), scales.alpha)

    def _learned(self, w: Tensor, low: Tensor, step: Tensor, inputs: InputStatistics) -> Tensor:
        """Which weights go up, 0 or 1 [N, K], float64; ``step`` 0: beyond the grid, where nothing can be learned."""
        gram, free = inputs.gram * (2 / inputs.rows), step > 0
        s = torch.where(free, step if self.scale_aware else torch.ones_like(step), 1.0)
        share = torch.where(free, (w - low) / step.where(free, 1.0), 0.5).clamp(0, 1)
        v = s * ((share - _LOW) / (_HIGH - share)).log()
        adam = _Adam(v, torch.zeros_like(v), torch.zeros_like(v))
        for i in range(self.iterations):
            sigmoid = torch.sigmoid(v / s)
            stretched = (_HIGH - _LOW) * sigmoid + _LOW
            h = stretched.clamp(0, 1)
            slope = (_HIGH - _LOW) * sigmoid * (1 - sigmoid) / s * ((stretched > 0) & (stretched < 1))
            gradient = ((low + h * step - w) @ gram) * step
            done = (i / self.iterations - _WARM) / (1 - _WARM)
            if self.weight and done >= 0:
                b, off = _LAST + (_FIRST - _LAST) * (1 - done), 2 * h - 1
                gradient -= self.weight * 2 * b * off.sign() * off.abs() ** (b - 1)
            adam.step(gradient * slope * free, self.rate, i + 1)
        return (v >= 0).to(w.dtype)


class _Adam(NamedTuple):
    """Parameters and their two moments, changed in place."""

    v: Tensor
    first: Tensor
    second: Tensor

    def step(self, gradient: Tensor, rate: float, count: int) -> None:
        a, b = _BETAS
        self.first.lerp_(gradient, 1 - a)
        self.second.lerp_(gradient.square(), 1 - b)
        size = (self.second / (1 - b**count)).sqrt() + _EPSILON
        self.v.sub_(rate / (1 - a**count) * self.first / size)


def _neighbors(u: Tensor, fmt: Format) -> tuple[Tensor, Tensor]:
    """The value of the grid at or below u, and the distance to the next; at the end (or past it) the end, and 0."""
    step = floor_power(u, fmt.emin) * 2.0**-fmt.man
    low, inside = (u / step).floor() * step, u.abs() < fmt.max * _END
    return low.where(inside, fmt.max * u.sign()), step.where(inside, 0.0)


__all__ = ["AdaRound"]
