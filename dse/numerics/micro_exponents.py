"""Micro-exponents: one bit for each part of a block, which doubles the part's scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.errors import OptionError
from dse.numerics.formats import Format


def check(sizes: object, block: int) -> None:
    """Raises OptionError unless sizes are whole parts of the block (0: of any), each a whole part of the one before."""
    if not isinstance(sizes, tuple) or any(not isinstance(n, int) or n < 1 for n in sizes):
        raise OptionError(f"micro_exponents must be a list of sizes such as [8, 4], not {sizes!r}")
    for whole, part in zip((block, *sizes), sizes, strict=False):
        if whole % part or part == whole:
            raise OptionError(f"micro_exponents: parts of {part} elements do not divide {whole}")


def factor(u: Tensor, sizes: Sequence[int], element: Format) -> Tensor:
    """2^k of every element [..., R/t, t, K/b, b], k the number of bits that are set above it.

    ``u``: the operand over its block's scale. At each level, from the largest parts on, a part's bit is set where
    max |u| / 2^k reaches what elements and the levels below hold without it: 2^(emax + 1) for the last level, twice
    that for the one before. Shapes as ``u``.
    """
    scale = torch.ones_like(u)
    magnitude = u.detach().abs()
    for level, size in enumerate(sizes):
        limit = 2.0 ** (element.emax + len(sizes) - level)
        parts = pad(magnitude / scale, (0, -u.shape[-1] % size)).unflatten(-1, (-1, size))
        peak = parts.amax((-4, -1), keepdim=True).expand_as(parts).flatten(-2)[..., : u.shape[-1]]
        scale = torch.where(peak >= limit, scale * 2, scale)
    return scale
