"""What the tests of weight rules share: quantizers, operands, and a slow MX of scalars."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E8M0, UE4M3
from dse.numerics.random import key
from dse.numerics.techniques.rounding import AwayFromZero
from dse.numerics.techniques.tensor_scales import Current

SEED = 20260
MX = BlockQuantizer(E2M1, E8M0, block=8, scale_rounding=AwayFromZero())  # scale 2^ceil(log2(amax / 6))
NV = BlockQuantizer(E2M1, UE4M3, block=8, tensor_scale=Current())
GRID = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
NOW = key(seed=1, step=3, point=1)


def normal(*shape: int, seed: int = SEED) -> Tensor:
    print("seed", seed)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scalar_scale(block: list[float]) -> float:
    top = max(abs(v) for v in block)
    if top == 0:
        return 1.0
    exponent = -149
    while 6.0 * 2.0**exponent < top:
        exponent += 1
    return 2.0**exponent


def neighbors(u: float) -> tuple[float, float]:
    """The grid values below and above a magnitude u <= 6."""
    return max(g for g in GRID if g <= u), min(g for g in GRID if g >= u)


def scalar_nearest(u: float) -> float:
    lo, hi = neighbors(u)
    if u - lo != hi - u:
        return lo if u - lo < hi - u else hi
    return lo if GRID.index(lo) % 2 == 0 else hi  # the even code


def scalar_quantize(row: list[float], size: int = 8) -> list[float]:
    out: list[float] = []
    for i in range(0, len(row), size):
        s = scalar_scale(row[i : i + size])
        out += [math.copysign(scalar_nearest(abs(v) / s) * s, v) for v in row[i : i + size]]
    return out
