"""What quantized layers keep between steps, in a training on several processes.

Clocks are each process's own. Weights and gradients are equal on all, and so is what weight rules do with them. Held
tensor scales, a decomposition's measurements and what a precision schedule watches come from each process's own data,
and have to be agreed upon.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dse.nn.quantized_layer import QuantizedLayer
from dse.nn.sharded import is_sharded


def sync_held_scales(model: nn.Module, group: Any = None) -> None:
    """Makes what layers keep equal on the processes of ``group`` (default: all), each of which has to call it.

    Held tensor scales become the largest, as TransformerEngine reduces its amax over the data-parallel group; what
    decompositions measure and precision schedules watch becomes the mean. Call it after the backward pass.
    ``set_clock`` does so by itself for a model under ``fully_shard`` and for the ``DistributedDataParallel`` module
    when it is handed that.
    """
    import torch.distributed as dist

    layers = _keepers(model)
    scales = [layer.memory for layer in layers if layer.memory is not None]
    watches = [layer.watch for layer in layers if layer.watch is not None]
    watches += [t for layer in layers for t in layer.measured if t.is_floating_point()]
    _reduce(scales, lambda t: dist.all_reduce(t, dist.ReduceOp.MAX, group))
    _reduce(watches, lambda t: (dist.all_reduce(t, dist.ReduceOp.SUM, group), t.div_(dist.get_world_size(group))))


def agree(model: nn.Module) -> None:
    """Calls ``sync_held_scales`` where it is known which processes train the model, and warns where it is not."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return
    layers = _keepers(model)
    if not layers:
        return
    if isinstance(model, nn.parallel.DistributedDataParallel):
        sync_held_scales(model, model.process_group)
    elif meshes := {layer.weight.device_mesh for layer in layers if is_sharded(layer.weight)}:  # type: ignore[attr-defined]
        for mesh in meshes:
            for dim in range(mesh.ndim):
                sync_held_scales(model, mesh.get_group(dim))
    else:
        warnings.warn(
            "held tensor scales, measured channels and watched noise are each process's own: hand set_clock the "
            "DistributedDataParallel module, or call dse.nn.distributed.sync_held_scales(model) after each backward "
            "pass",
            stacklevel=3,
        )


def _keepers(model: nn.Module) -> list[QuantizedLayer]:
    """The layers that keep something of the data."""
    layers = [m for m in model.modules() if isinstance(m, QuantizedLayer)]
    return [layer for layer in layers if layer.memory is not None or layer.watch is not None or layer.measured]


@torch.no_grad()
def _reduce(tensors: Iterable[Tensor], reduce: Any) -> None:
    """Reduces all tensors in one piece."""
    parts = list(tensors)
    if parts:
        whole = torch.cat([part.flatten() for part in parts])
        reduce(whole)
        for part, reduced in zip(parts, whole.split([part.numel() for part in parts]), strict=True):
            part.copy_(reduced.view(part.shape))


__all__ = ["agree", "sync_held_scales"]
