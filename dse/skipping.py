"""A training step that the optimizer skips, as after an overflow, leaves a quantized layer's state as it was."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


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
    """Whether every gradient of a model's parameters is finite; waits for the device once."""
    found = []
    for parameter in model.parameters():
        if parameter.grad is not None:
            g = parameter.grad
            found.append((g.coalesce().values() if g.is_sparse else g).isfinite().all())
    return not found or bool(torch.stack([flag.to(found[0].device) for flag in found]).all())


__all__ = ["Sampled", "finite_gradients"]
