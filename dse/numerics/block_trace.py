"""The parts of one block quantization: operand in blocks, statistic, scales, elements, and the candidate chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dse.numerics.quantizer import Quantized
from dse.numerics.techniques.choices import Candidate
from dse.numerics.techniques.conventions import Factors, Level
from dse.numerics.techniques.outliers import Parts


@dataclass(frozen=True, eq=False)
class BlockTrace:
    """What ``BlockQuantizer.trace`` returns: f(X) of an operand X [..., R, K], and all that it is made of.

    Parts are in blocks [..., R/t, t, K/b, b], padded with zeros, or one per block [..., R/t, 1, K/b, 1]; ``matrix``
    brings the former back to [..., R, K]. With several candidates, a block's parts are those of the one chosen for it.

    - ``quantized``: f(X), what calling the quantizer returns;
    - ``split``: X as split by outlier handling, whose first part the rest of the trace is about; None without it;
    - ``blocks``: X, or that first part;
    - ``statistic``: Z, one per block (per element where a 'diagonal' gradient is wanted);
    - ``level``: reference and target of the tensor scale, or None;
    - ``candidates``, ``chosen``: ways to quantize a block, and the number of the chosen one, int64, one per block;
    - ``factors``: the block scale as encode and decode factors, and alpha of the tensor scale;
    - ``scaled``: what the elements are cast from;
    - ``elements``: the elements, on their format's grid;
    - ``values``: elements times decode factor, over the candidate's gain: f(X) but for alpha and the quantizer's gain.
    """

    quantized: Quantized
    split: Parts | None
    blocks: Tensor
    statistic: Tensor
    level: Level | None
    candidates: tuple[Candidate, ...]
    chosen: Tensor
    factors: Factors
    scaled: Tensor
    elements: Tensor
    values: Tensor

    def matrix(self, blocks: Tensor) -> Tensor:
        """[..., R/t, t, K/b, b] -> [..., R, K], without the padding; smaller sizes are broadcast."""
        rows, columns = self.quantized.values.shape[-2:]
        return unblocked(blocks.expand_as(self.blocks), rows, columns)


class Steps(NamedTuple):
    """What one candidate makes of the blocks on the way to their values; see ``BlockTrace``."""

    scaled: Tensor
    elements: Tensor
    encode: Tensor
    decode: Tensor
    chosen: Tensor


class Decoded(NamedTuple):
    """Decoded values in blocks, without alpha; ``steps``: None where nobody wants them, which frees their memory."""

    values: Tensor
    alpha: Tensor | None
    steps: Steps | None

    def replaced(self, where: Tensor, by: Decoded) -> Decoded:
        """With those of ``by`` in the blocks of a mask; alpha stays."""
        values = torch.where(where, by.values, self.values)
        if self.steps is None or by.steps is None:
            return Decoded(values, self.alpha, None)
        steps = (torch.where(where, new, old) for new, old in zip(by.steps, self.steps, strict=True))
        return Decoded(values, self.alpha, Steps(*steps))


def unblocked(blocks: Tensor, rows: int, columns: int) -> Tensor:
    """[..., R/t, t, K/b, b] -> [..., R, K], without the padding."""
    flat: Tensor = blocks.flatten(-2).flatten(-3, -2)[..., :rows, :columns]
    return flat
