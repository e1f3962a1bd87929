"""Gradient norms per parameter on a GPU: a member's bits are the same in any pack, and two launches do for all."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from dse.flat import Layout

_CHUNK = 4096


class Chunks(NamedTuple):
    """Where chunks begin and end in a member's row, and the first chunk of each parameter (and one past the last)."""

    starts: Tensor
    stops: Tensor
    first: Tensor


@lru_cache(maxsize=16)
def chunks(layout: Layout, device: torch.device) -> Chunks:
    """The chunks of a layout, on the device: int64 and int32."""
    starts, stops, first = [], [], [0]
    for offset, shape in zip(layout.offsets, layout.shapes, strict=True):
        end = offset + math.prod(shape)
        for start in range(offset, end, _CHUNK):
            starts.append(start)
            stops.append(min(end, start + _CHUNK))
        first.append(len(starts))
    return Chunks(
        torch.tensor(starts, dtype=torch.int64, device=device),
        torch.tensor(stops, dtype=torch.int64, device=device),
        torch.tensor(first, dtype=torch.int32, device=device),
    )


def norms(layout: Layout, flat: Tensor) -> Tensor:
    """``Layout.norms`` of a contiguous float32 buffer [E, P]: [E, n]. Squares are summed in FP32 as they are."""
    from dse.kernels.device import norms as device

    table, members, count = chunks(layout, flat.device), len(flat), len(layout.names)
    number = len(table.starts)
    parts = torch.empty(members, number, device=flat.device)
    out = torch.empty(members, count, device=flat.device)
    device.squares_kernel[(number, members)](
        flat, flat.stride(0), table.starts, table.stops, parts, number, B=_CHUNK, num_warps=8
    )
    device.roots_kernel[(count, members)](parts, table.first, out, number, count, B=256, num_warps=1)
    return out
