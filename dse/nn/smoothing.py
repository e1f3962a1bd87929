"""Smoothing of attention's queries and keys: their means are taken off before they are quantized."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dse.numerics.attention import Attention
from dse.numerics.linear_autograd import linear
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe

_UNQUANTIZED = Recipe()


class Smoothed(NamedTuple):
    """Queries [S, T, D] and keys [S, T', D] that are quantized, and what is added to their scores, or None."""

    q: Tensor
    k: Tensor
    correction: Tensor | None


def smoothed(numerics: Attention, q: Tensor, k: Tensor, key: Key) -> Smoothed:
    """Stacks of queries and keys without the means that ``numerics`` takes off; ``key``: of the scores."""
    k = centered(k) if numerics.smooth_keys else k
    if numerics.smooth_queries is None:
        return Smoothed(q, k, None)
    tile = numerics.smooth_queries or q.shape[-2]
    means = torch.cat([part.mean(-2, keepdim=True) for part in q.split(tile, -2)], -2)
    added = linear(means, k, _UNQUANTIZED, LinearContext(key))
    return Smoothed(q - _spread(means, tile, q.shape[-2]), k, _spread(added, tile, q.shape[-2]))


def centered(k: Tensor) -> Tensor:
    """Keys [S, T, D] without their mean over the tokens."""
    return k - k.mean(-2, keepdim=True)


def _spread(rows: Tensor, tile: int, tokens: int) -> Tensor:
    """A row per token from one per tile: [S, T / tile, N] -> [S, T, N]."""
    wide: Tensor = rows.unsqueeze(-2).expand(*rows.shape[:-1], tile, rows.shape[-1]).flatten(-3, -2)
    return wide[..., :tokens, :]


__all__ = ["Smoothed", "centered", "smoothed"]
