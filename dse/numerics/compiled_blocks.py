"""A block quantizer by compiled loops, where ``dse.kernels.cpu_loops`` says that they run: bit for bit its plain torch.

Operands are float32 [..., R, K], contiguous; what there is one of per block is [..., R/t, 1, K/b, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dse.kernels.cpu_loops import loops
from dse.kernels.loops.block_options import FLOATS, INTEGERS
from dse.numerics.formats import Format
from dse.numerics.random import Key
from dse.numerics.techniques.choices import Candidate, Choice
from dse.numerics.techniques.choices.base import ERRORS
from dse.numerics.techniques.conventions import Convention, Decode, Encode, Factors
from dse.numerics.techniques.rounding import (
    AwayFromZero,
    MantissaEven,
    NearestAway,
    NearestEven,
    Rounding,
    Stochastic,
    TowardZero,
)

_NEVER, _ALWAYS = 2.0, 2.0**-149
"""Thresholds for the fraction: none reaches the first, every one but 0 the second."""
_THRESHOLDS: dict[type[Rounding], Callable[[Any], tuple[float, float]]] = {
    NearestEven: lambda rounding: (0.0, 0.5),
    NearestAway: lambda rounding: (0.0, 0.5),
    MantissaEven: lambda rounding: (2.0 ** -(rounding.mantissa + 1), _NEVER),
    TowardZero: lambda rounding: (0.0, _NEVER),
    AwayFromZero: lambda rounding: (0.0, _ALWAYS),
    Stochastic: lambda rounding: (0.0, _NEVER),
}
"""(offset, threshold): |v| rounds to floor(|v| + offset), one more where the fraction reaches the threshold."""
_ZEROS: dict[str, Callable[[Format], float]] = {
    "flush": lambda fmt: 0.0,
    "smallest": lambda fmt: fmt.smallest,
    "one": lambda fmt: 1.0,
}


class ScaleOptions(NamedTuple):
    """What a quantizer's scales depend on. ``target``: T of the tensor scale, None without one; ``base``: see Level."""

    fmt: Format
    rounding: Rounding
    convention: Convention
    target: float | None
    base: float | None


class LoopOptions(NamedTuple):
    """A candidate's options as the loops read them; ``scales``: whether the loops compute its factors, too."""

    how: Candidate
    floats: Any
    integers: Any
    scales: bool


def loop_options(how: Candidate, rounding: Rounding, gain: float, scale: ScaleOptions) -> LoopOptions | None:
    """The options of one candidate, or None where the loops do not round its elements."""
    fmt, kind = how.element, type(scale.convention)
    if type(rounding) not in _THRESHOLDS or not fmt.signed or not fmt.subnormals or fmt.emin - fmt.man < -126:
        return None
    by_loops = kind in (Decode, Encode) and type(scale.rounding) in _THRESHOLDS
    by_loops = by_loops and not scale.rounding.random_bits and not how.codes
    low = -scale.fmt.max if scale.fmt.signed else 0.0 if scale.fmt.subnormals else scale.fmt.smallest
    c, target = how.constant, 0.0 if scale.target is None else scale.target
    divides = isinstance(scale.convention, Encode) and scale.convention.divisor
    zero = _ZEROS[scale.convention.zero](scale.fmt) if by_loops else 0.0
    own: dict[str, float] = {
        **_lattice("", fmt, rounding),
        **(_lattice("SCALE_", scale.fmt, scale.rounding) if by_loops else {}),
        "SCALE_LOW": low,
        "SCALE_ZERO": zero,
        "OVERALL": gain,
        "GAIN": how.gain,
        "UNDO": how.multiple,
        "C": c,
        "INVERSE_C": 1 / c,
        "TARGET": target * c,
        "DIVISOR": c * target if divides and target else 1.0,
        "BASE": scale.base or 0.0,
        "RATIO": (scale.base or c) / c,
        "NEAREST": isinstance(rounding, NearestEven),
        "SCALE_NEAREST": isinstance(scale.rounding, NearestEven),
        "UNQUANTIZED": by_loops and scale.convention.encode_with == "unquantized",
        "HIDES": fmt.max * how.multiple * scale.convention.largest(scale.fmt) <= torch.finfo(torch.float32).max,
        "ENCODES": kind is Encode,
        "RANDOM_BITS": rounding.random_bits,
    }
    floats = np.array([own.get(name, 0.0) for name in FLOATS], dtype=np.float32)
    return LoopOptions(how, floats, np.array([own[name] for name in INTEGERS], dtype=np.int64), by_loops)


def _lattice(prefix: str, fmt: Format, rounding: Rounding) -> dict[str, float]:
    offset, threshold = _THRESHOLDS[type(rounding)](rounding)
    own = {"HIGH": fmt.max, "LEAST": 2.0**fmt.emin, "UNIT": 2.0**-fmt.man, "OFFSET": offset, "THRESHOLD": threshold}
    return {prefix + name: value for name, value in own.items()}


def addressed(x: Tensor, random_bits: int, key: Key | None) -> bool:
    """Whether the loops know which random bits the operands of x [..., R, K] draw."""
    if not random_bits or key is None:
        return True
    lead, members = x.shape[:-2], key.clock.shape[:-1]
    if key.matrices:
        return len(lead) == 1 and lead[0] == math.prod(members) * key.matrices
    return lead == members or not members


class BlockedOperand(NamedTuple):
    """An operand x [..., R, K] in blocks of ``tile`` rows and ``block`` columns."""

    x: Tensor
    tile: int
    block: int

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """B, R, K and those of a block."""
        *lead, rows, columns = self.x.shape
        return math.prod(lead), rows, columns, self.tile, self.block

    def absmax(self, whole: bool) -> tuple[Tensor, Tensor | None]:
        """The largest magnitude of each block, and with ``whole`` of each operand [..., 1, 1, 1, 1]."""
        *lead, rows, columns = self.x.shape
        z = torch.empty(*lead, -(-rows // self.tile), 1, -(-columns // self.block), 1)
        g = torch.empty(*lead, 1, 1, 1, 1) if whole else None
        places = self.x.data_ptr(), z.data_ptr(), 0 if g is None else g.data_ptr()
        loops("block_loops").peaks(*places, *self.sizes)
        return z, g

    def quantized(
        self, options: LoopOptions, z: Tensor, g: Tensor | None, key: Key | None, folds: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Decoded values [..., R, K] from Z of each block, and alpha; ``g``: of the tensor scale.

        ``folds``: values are multiplied by alpha.
        """
        z, g = z.contiguous(), None if g is None else g.contiguous()
        alpha = None if g is None else torch.empty(g.shape)
        return self._run(options, z, (g, alpha, None, None), key, folds), alpha

    def from_factors(self, options: LoopOptions, factors: Factors, key: Key | None, folds: bool) -> Tensor:
        """The same from factors that are given."""
        alpha = factors.alpha.contiguous() if folds and factors.alpha is not None else None
        encode, decode = factors.encode.contiguous(), factors.decode.contiguous()
        return self._run(options, encode, (alpha, alpha, encode, decode), key, folds)

    def _run(
        self, options: LoopOptions, z: Tensor, scales: Sequence[Tensor | None], key: Key | None, folds: bool
    ) -> Tensor:
        """``scales``: g, alpha, encode and decode factors."""
        n, g = int(options.integers[-1]), scales[0]
        clock, share, spacing, purpose, layer = z, 1, 0, 0, 0
        if n:
            if key is None:
                raise ValueError(f"stochastic rounding to {options.how.element.name} needs a Key")
            clock, purpose, layer = key.clock.contiguous(), key.purpose(n), key.layer
            share = max(1, math.prod(self.x.shape[:-2]) * 2 // max(2, clock.numel()))
            spacing = z.shape[-4] * self.tile if key.matrices else 0
        y = torch.empty_like(self.x)
        places = (0 if t is None else t.data_ptr() for t in (self.x, y, z, *scales))
        loops("block_loops").quantize(
            *(options.floats, options.integers, *places, *self.sizes),
            *((1, 1) if g is None else (g.shape[-4], g.shape[-2])),
            *(clock.data_ptr(), share, spacing, purpose, layer, folds),
        )
        return y

    def keep_closer(self, best: Tensor, other: Tensor, factor: Tensor, choice: Choice) -> None:
        """Replaces blocks of ``best`` by those of ``other`` that have a strictly smaller error against x."""
        rows, columns, factor = factor.shape[-4], factor.shape[-2], factor.contiguous()
        places = (t.data_ptr() for t in (best, other, self.x, factor))
        loops("choice_loops").keep_closer(*places, *self.sizes, rows, columns, ERRORS.index(choice.error))


__all__ = ["BlockedOperand", "LoopOptions", "ScaleOptions", "addressed", "loop_options"]
