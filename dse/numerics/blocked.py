"""An operand in blocks: the view and its padding, the statistic of each block, random bits per element and block."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.kernels.alignment import contiguous
from dse.numerics.random import Key
from dse.numerics.techniques.rounding import Rounding
from dse.numerics.techniques.statistics import Statistic, measure

ELEMENT_DRAW, SCALE_DRAW, CORRECTION_DRAW = 0, 1, 2


def blocked(x: Tensor, tile: int, block: int) -> Tensor:
    """[..., R, K] -> [..., R/t, t, K/b, b], padded with zeros, which no statistic counts (see ``measured``)."""
    rows, columns = x.shape[-2:]
    extra = (-columns % block, -rows % tile)
    if any(extra):
        x = pad(x, (0, extra[0], 0, extra[1]))
    blocks: Tensor = contiguous(x).unflatten(-1, (-1, block)).unflatten(-3, (-1, tile))
    return blocks


def measured(x: Tensor, blocks: Tensor, statistic: Statistic, gradient: str) -> Tensor:
    """Z of each block, of x [..., R, K] alone where ``blocks`` has padding that the statistic would count."""
    tile, block = blocks.shape[-3], blocks.shape[-1]
    if not statistic.counts_zeros or x.shape[-2] % tile == x.shape[-1] % block == 0:
        return measure(blocks, statistic, gradient)
    copies = gradient == "diagonal" and x.requires_grad and torch.is_grad_enabled()
    rows = []
    for part, height in _filled(x, -2, tile):
        row = []
        for corner, width in _filled(part, -1, block):
            whole = corner.contiguous().unflatten(-1, (-1, width)).unflatten(-3, (-1, height))
            z = measure(whole, statistic, gradient)
            if copies:  # one per element, see ``measure``
                z = pad(z, (0, block - width, 0, 0, 0, tile - height), value=1.0)
            row.append(z)
        rows.append(torch.cat(row, -2))
    return torch.cat(rows, -4)


def _filled(x: Tensor, axis: int, size: int) -> list[tuple[Tensor, int]]:
    """The part of ``x`` that whole pieces of ``size`` fill along an axis, and the rest, each with its piece's size."""
    extent = x.shape[axis]
    parts = (
        (x.narrow(axis, 0, extent - extent % size), size),
        (x.narrow(axis, extent - extent % size, extent % size), extent % size),
    )
    return [(part, piece) for part, piece in parts if part.shape[axis]]


def draw(rounding: Rounding, x: Tensor, key: Key | None, purpose: int) -> Tensor | None:
    """Random bits for ``x`` [..., A, B, C, D], laid out as the [A B, C D] matrix it is a view of.

    Scales draw once per block, even where 'diagonal' keeps a copy per element.
    """
    if not rounding.random_bits:
        return None
    if key is None:
        raise ValueError(f"{rounding} needs a Key")
    a, b, c, d = x.shape[-4:]
    if purpose == SCALE_DRAW:
        b = d = 1
    bits: Tensor = (
        key.fork(purpose).bits(a * b, c * d, rounding.random_bits).unflatten(-1, (c, d)).unflatten(-3, (a, b))
    )
    return bits
