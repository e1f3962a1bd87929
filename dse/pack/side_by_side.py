"""Work that does not depend on one another, on several streams of a GPU: the segments of a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

import torch

_STREAMS = 16
"""Of a pack of all recipes, H200: 801 model-steps/s by 1, 1,232 by 4, 1,298 by 8, 1,382 by 16, 1,403 by 32."""
_Result = TypeVar("_Result")


def side_by_side(tasks: Sequence[Callable[[], _Result]], device: torch.device) -> list[_Result]:
    """What the ``tasks`` return, in their order. On a GPU they run on streams that start from the present one and are
    joined to it; a CUDA graph that is being captured takes them as branches.

    Small segments, each of a few members, leave most of a GPU idle by themselves. Every stream waits for the present
    one before its first task and is waited for after the last, so memory that a task has freed is given to nobody who
    runs before those who read it.
    """
    if len(tasks) < 2 or device.type != "cuda":
        return [task() for task in tasks]
    present, streams = torch.cuda.current_stream(device), _streams(device)[: len(tasks)]
    for stream in streams:
        stream.wait_stream(present)
    try:
        found = []
        for number, task in enumerate(tasks):
            with torch.cuda.stream(streams[number % len(streams)]):
                found.append(task())
        return found
    finally:
        for stream in streams:
            present.wait_stream(stream)


@lru_cache
def _streams(device: torch.device) -> tuple[torch.cuda.Stream, ...]:
    return tuple(torch.cuda.Stream(device) for _ in range(_STREAMS))
