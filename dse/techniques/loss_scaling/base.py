"""What loss scaling is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dse.ops import Ops


class Scaler(ABC):
    """The loss scale of one training, and what it keeps between steps.

    One training step is::

        scaler.scale(loss).backward()
        ok = scaler.unscale_(model.parameters())
        if ok:  # clip, before_step, optimizer.step, after_step; a step that is not ok leaves everything as it was
            ...
        scaler.update(ok)
    """

    factor: float
    """The number that the loss is multiplied by now."""

    def scale(self, loss: Tensor) -> Tensor:
        """factor * loss, for the backward pass."""
        return loss * self.factor

    def unscale_(self, parameters: Iterable[Tensor]) -> bool:
        """Divides the gradients by the factor, in place, and says whether the optimizer may use them."""
        for p in parameters:
            if p.grad is not None:
                p.grad.mul_(1 / self.factor)
        return True

    @abstractmethod
    def update(self, ok: bool) -> None:
        """Called at the end of every step with what ``unscale_`` said."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Plain numbers to resume from."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where ``state_dict`` was taken."""


class LossScaling(ABC):
    """How the loss is scaled before the backward pass, so that small gradients stay in the range of their format."""

    @abstractmethod
    def start(self) -> Scaler:
        """The scaler of a new training."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost per parameter and step."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every element is finite; waits for the device once."""
    flags = [t.isfinite().all() for t in tensors]
    return not flags or bool(torch.stack(flags).all())
