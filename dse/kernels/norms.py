"""Gradient norms per parameter on a GPU: a member's bits are the same in any pack, and two launches do for all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

_CHUNK = 4096


class Chunks(NamedTuple):
    """Where chunks begin and end in a member's row, and the first chunk of each parameter (and one past the last)."""

    starts: Tensor
    stops: Tensor
    first: Tensor


@lru_cache(maxsize=16)
def chunks(spans: tuple[tuple[int, int], ...], device: torch.device) -> Chunks:
    """The chunks of parameters at columns (first, end), on the device: int64 and int32."""
    starts, stops, first = [], [], [0]
    for offset, end in spans:
        for start in range(offset, end, _CHUNK):
            starts.append(start)
            stops.append(min(end, start + _CHUNK))
        first.append(len(starts))
    return Chunks(
        torch.tensor(starts, dtype=torch.int64, device=device),
        torch.tensor(stops, dtype=torch.int64, device=device),
        torch.tensor(first, dtype=torch.int32, device=device),
    )


def norms(flat: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
    """Euclidean norms [E, n] of n spans of columns (first, end) of a float32 buffer [E, P] with contiguous rows.

    Squares are summed in FP32 as they are.
    """
    from dse.kernels.device import norms as device

    table, members, count = chunks(tuple(spans), flat.device), len(flat), len(spans)
    number = len(table.starts)
    parts = torch.empty(members, number, device=flat.device)
    out = torch.empty(members, count, device=flat.device)
    device.squares_kernel[(number, members)](
        flat, flat.stride(0), table.starts, table.stops, parts, number, B=_CHUNK, num_warps=8
    )
    device.roots_kernel[(count, members)](parts, table.first, out, number, count, B=256, num_warps=1)
    return out
