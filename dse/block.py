"""The block quantizer f(X) = s_q Q(X / s_q), composed of small pieces.

One block: Z = statistic(X_p); decode scale s_q = q(S_enc Z / c); elements Q(X / (s_q / S_enc)); decoded value Q s_q,
with 1 / S_enc left to the GEMM's epilogue. Source: arXiv 2509.17791, Def. 1 and Sec. 3, in the decode convention of
arXiv 2509.25149 (NVFP4).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.cast import cast
from dse.errors import OptionError
from dse.formats import E2M1, E8M0, Format
from dse.ops import FREE, Ops
from dse.quantizer import Quantized, Quantizer
from dse.random import Key
from dse.techniques.rounding import NEAREST_EVEN, Rounding
from dse.techniques.slopes import STRAIGHT_THROUGH, Slope
from dse.techniques.statistics import ABSMAX, Statistic
from dse.techniques.tensor_scales import TensorScale

_ELEMENT_DRAW, _SCALE_DRAW = 0, 1


@dataclass(frozen=True)
class BlockQuantizer(Quantizer):
    """Elements in blocks that share a scale.

    - ``element``, ``scale``: formats of the elements and of the block scale;
    - ``block``: elements along the contraction axis that share a scale; ``tile``: rows that share it (1 or, for 2-D
      tiles, usually ``block``);
    - ``rounding``, ``scale_rounding``: of elements and of scales; ``slope``, ``scale_slope``: their Q' and q';
    - ``statistic``: Z; ``constant``: c, the element value that Z is mapped to (default: the largest element;
      OCP MX uses the largest power of two, 4 for E2M1);
    - ``tensor_scale``: a second-level FP32 scale, or none.

    Blocks of zeros stay zero. A NaN makes its block NaN. An infinity saturates its block's scale and its element.
    A scale that underflows to zero flushes its block. Raises OptionError for sizes below 1 or c outside (0, max].
    """

    element: Format = E2M1
    scale: Format = E8M0
    block: int = 32
    tile: int = 1
    rounding: Rounding = NEAREST_EVEN
    scale_rounding: Rounding = NEAREST_EVEN
    slope: Slope = STRAIGHT_THROUGH
    scale_slope: Slope = STRAIGHT_THROUGH
    statistic: Statistic = ABSMAX
    constant: float | None = None
    tensor_scale: TensorScale | None = None

    def __post_init__(self) -> None:
        for name in ("block", "tile"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.constant is not None and not 0 < self.constant <= self.element.max:
            raise OptionError(f"constant must lie in (0, {self.element.max:g}], not {self.constant}")

    @property
    def straight_through(self) -> bool:
        return self.slope.is_identity and self.statistic.is_constant

    @property
    def multiple(self) -> int:
        return self.block

    @property
    def block_size(self) -> int:
        return self.block * self.tile

    @property
    def random_bits(self) -> int:
        return max(self.rounding.random_bits, self.scale_rounding.random_bits)

    def __call__(self, x: Tensor, key: Key | None = None) -> Quantized:
        rows, columns = x.shape[-2:]
        if x.numel() == 0:
            return Quantized(x)
        blocks = self._blocked(x)
        encode, decode, alpha = self.scales(self.statistic(blocks), key)
        q = cast(blocks * encode, self.element, self.rounding, self.slope, self._element_bits(blocks, key))
        values = (q * decode).flatten(-2).flatten(-3, -2)[..., :rows, :columns]
        return Quantized(values, None if alpha is None else alpha.flatten(-4, -3).flatten(-2))

    def scales(self, z: Tensor, key: Key | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Statistic z [..., R/t, 1, K/b, 1] -> encode factor, decode scale s_q (same shape), alpha [..., 1, 1, 1, 1].

        The order of FP32 operations is TransformerEngine's: z * (S_enc * (1/c)), then 1 / (s_q * (1/S_enc)).
        """
        c = self.element.max if self.constant is None else self.constant
        inverse_c = torch.tensor(1.0 / c, dtype=z.dtype, device=z.device)
        bits = _draw(self.scale_rounding, z, key, _SCALE_DRAW)
        largest = torch.finfo(z.dtype).max
        if self.tensor_scale is None:
            s_q = cast(z * inverse_c, self.scale, self.scale_rounding, self.scale_slope, bits)
            return (1 / s_q).clamp_max(largest), s_q, None
        s_enc = self.tensor_scale(z, self.scale, c)
        alpha = 1 / s_enc
        s_q = cast(z * (s_enc * inverse_c), self.scale, self.scale_rounding, self.scale_slope, bits)
        return (1 / (s_q * alpha)).clamp_max(largest), s_q, alpha

    def _blocked(self, x: Tensor) -> Tensor:
        """[..., R, K] -> [..., R/t, t, K/b, b], padded with zeros, which change no block's scale."""
        rows, columns = x.shape[-2:]
        extra = (-columns % self.block, -rows % self.tile)
        if any(extra):
            x = pad(x, (0, extra[0], 0, extra[1]))
        blocks: Tensor = x.contiguous().unflatten(-1, (-1, self.block)).unflatten(-3, (-1, self.tile))
        return blocks

    def _element_bits(self, blocks: Tensor, key: Key | None) -> Tensor | None:
        return _draw(self.rounding, blocks, key, _ELEMENT_DRAW)

    def ops(self) -> tuple[tuple[str, Ops], ...]:
        base = Ops(element=2, block=2, why="scale and cast 2/element, divide and cast the scale 2/block")
        surrogate = Ops(element=self.slope.ops().element, why=self.slope.ops().why)
        parts = [
            (f"{self.element.name} in blocks", base),
            ("statistic", self.statistic.ops()),
            ("element rounding", self.rounding.ops()),
            ("scale rounding", Ops(block=self.scale_rounding.ops().element, why="per block")),
            ("element slope", surrogate),
            ("scale slope", Ops(block=self.scale_slope.ops().element, why="per block")),
            ("tensor scale", self.tensor_scale.ops() if self.tensor_scale else FREE),
        ]
        return tuple((name, ops) for name, ops in parts if ops != Ops(why=ops.why))


def _draw(rounding: Rounding, x: Tensor, key: Key | None, draw: int) -> Tensor | None:
    """Random bits for ``x`` [..., A, B, C, D], laid out as the [A B, C D] matrix it is a view of."""
    if not rounding.random_bits:
        return None
    if key is None:
        raise ValueError(f"{rounding} needs a Key")
    a, b, c, d = x.shape[-4:]
    bits: Tensor = key.fork(draw).bits(a * b, c * d, rounding.random_bits).unflatten(-1, (c, d)).unflatten(-3, (a, b))
    return bits
