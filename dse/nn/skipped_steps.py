"""A training step that the optimizer skips, as after an overflow, leaves a quantized layer's state as it was."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dse.nn.sharded import is_sharded


@dataclass(frozen=True)
class Sampled:
    """What the passes of a training step change in a layer, as it was when the step began.

    ``kept``: copies of the tensors, None for those that the layer does not have; ``skipped``: whether the step is one
    that the optimizer skips.
    """

    kept: tuple[Tensor | None, ...] = ()
    skipped: bool = False

    @classmethod
    @torch.no_grad()
    def of(cls, *tensors: Tensor | None) -> Sampled:
        """At the beginning of a step; nothing is kept for a layer that has none of the tensors."""
        kept = tuple(None if t is None else t.clone() for t in tensors)
        return cls(kept if any(t is not None for t in kept) else ())

    def take(self) -> Sampled:
        """The step is not skipped."""
        return self if not self.skipped else replace(self, skipped=False)

    @torch.no_grad()
    def skip(self, *tensors: Tensor | None) -> Sampled:
        """The step is skipped: ``tensors`` become what they were."""
        for now, then in zip(tensors, self.kept, strict=False):
            if now is not None and then is not None:
                now.copy_(then)
        return replace(self, skipped=True)


@torch.no_grad()
def finite_gradients(model: nn.Module) -> bool:
    """Whether every gradient of a model's parameters is finite; waits for the device once.

    Where gradients are sharded (``fully_shard``), the answer is of all parts, and each process has to call this.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    found = [_part(g).isfinite().all() for g in gradients]
    if not found:
        return True
    fine = torch.stack([flag.to(found[0].device) for flag in found]).all().to(torch.int32)
    for mesh in {g.device_mesh for g in gradients if is_sharded(g)}:  # type: ignore[attr-defined]
        for dim in range(mesh.ndim):
            torch.distributed.all_reduce(fine, torch.distributed.ReduceOp.MIN, mesh.get_group(dim))
    return bool(fine)


def _part(g: Tensor) -> Tensor:
    """The values of a gradient that this process has."""
    if is_sharded(g):
        local: Tensor = g.to_local()  # type: ignore[attr-defined]
        return local
    return g.coalesce().values() if g.is_sparse else g


__all__ = ["Sampled", "finite_gradients"]
