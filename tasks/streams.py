"""Random streams that are pure functions of their name: the same on every machine, worker, recipe and resume.

Numbers are always drawn on the CPU, then moved, so that a GPU trial sees the batches a CPU trial sees.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator(*name: str | int) -> torch.Generator:
    """A CPU generator seeded by a hash of `name`, for example ("batch", seed, step)."""
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def rows(table: Tensor, seed: int, step: int, size: int) -> Tensor:
    """`size` row numbers of `table`, drawn with replacement for (seed, step), on the table's device: [size] int64."""
    return torch.randint(len(table), (size,), generator=generator("batch", seed, step)).to(table.device)


def permutation(count: int, *name: str | int) -> Tensor:
    """A fixed permutation of 0 .. count - 1: [count] int64."""
    return torch.randperm(count, generator=generator(*name))
