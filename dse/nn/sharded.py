"""Tensors that are spread over processes (``DTensor``, of ``fully_shard``), told by what they can do: no import."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def is_sharded(t: Tensor) -> bool:
    """Whether a process holds a part of the tensor only."""
    return hasattr(t, "full_tensor")


def whole(t: Any) -> Any:
    """The whole tensor; of a sharded one a copy, gathered from all processes, each of which has to call this."""
    return t.full_tensor() if t is not None and is_sharded(t) else t


def write(target: Any, value: Tensor) -> None:
    """Copies ``value``, which is equal on all processes, to ``target``: to this process's part where it is sharded."""
    if is_sharded(target):
        from torch.distributed.tensor import distribute_tensor

        part = distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)
        target, value = target.to_local(), part.to_local()
    target.copy_(value)


__all__ = ["is_sharded", "whole", "write"]
