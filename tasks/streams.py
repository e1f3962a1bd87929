"""Random streams of the tasks, as pure functions of their address: the same for every worker, recipe and resume.

On any machine they have the same whole and uniform numbers; normal ones may differ in the last bit, between torch's
instruction sets in more than that.

Two kinds. What a trial draws in every step comes from Philox (`dse.numerics.random`) on the data's device, addressed by
(seed, step, LAYER, point): a member of a pack draws what it draws alone, and a CUDA graph can hold the drawing. What is
drawn once per data set (splits, the Gaussian teacher, held-out noise) comes from torch's CPU generator.

LAYER lies far above the index of any layer of a model, so that batches and quantizers never share bits. The points:

    0  ROWS   which items of the data the batch holds
    1  LEVEL  diffusion: noise levels
    2  NOISE  diffusion: noise
    3  DROPOUT  masks of dropped elements, in the layers LAYER - 1, LAYER - 2, ...: one for each place in the model
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from dse.numerics.random import Key

LAYER = 0x7FFF_FFFF
ROWS, LEVEL, NOISE, DROPOUT = range(4)


def clock(seeds: Tensor, step: Tensor) -> Tensor:
    """The clocks of a pack: seeds [E] and the step [], both int64 on one device -> int64 [E, 2]."""
    return torch.stack([seeds, step.expand_as(seeds)], -1)


def words(seeds: Tensor, step: Tensor, point: int, rows: int, columns: int) -> Tensor:
    """Uniform 32-bit words, int64 [E, rows, columns]; each member's depend on its own seed, the step and `point`."""
    return Key(clock(seeds, step), LAYER, point).bits(rows, columns, 32)


def integers(seeds: Tensor, step: Tensor, size: int, count: int) -> Tensor:
    """Uniform integers 0 .. count - 1, int64 [E, size], count < 2³¹.

    Multiply-shift, w · count >> 32: no rejection, and no integer's probability is off by more than 2⁻³². The first
    integers are the same for any `size`.
    """
    return words(seeds, step, ROWS, 1, size).squeeze(-2) * count >> 32


def uniforms(seeds: Tensor, step: Tensor, point: int, rows: int, columns: int) -> Tensor:
    """Uniform numbers inside (0, 1), float64 [E, rows, columns]: the centers of 2³² equal intervals."""
    return (words(seeds, step, point, rows, columns).double() + 0.5) * 2.0**-32


def normals(seeds: Tensor, step: Tensor, point: int, rows: int, columns: int) -> Tensor:
    """Standard normal numbers, float32 [E, rows, columns]: the quantiles of uniform numbers, within ±6.34.

    In float64, so that the last bits in which devices differ are rounded away (but for about one number in 2²⁵).
    """
    quantile: Tensor = torch.special.ndtri(uniforms(seeds, step, point, rows, columns))
    return quantile.float()


def generator(*name: str | int) -> torch.Generator:
    """A CPU generator seeded by a hash of `name`, for example ("split", "digits")."""
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def permutation(count: int, *name: str | int) -> Tensor:
    """A fixed permutation of 0 .. count - 1: [count] int64."""
    return torch.randperm(count, generator=generator(*name))
