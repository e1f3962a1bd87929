"""What loss scaling is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from dse.numerics.ops import Ops


class LossScaling(ABC):
    """How the losses of E members are scaled before the backward pass: small gradients stay in their format's range.

    One training step, without waiting for the device::

        factor = scaling.factor(state)  # [E]
        g = gradient of (losses * factor).sum(), times (1 / factor)[:, None]  # [E, P]
        ok = scaling.good(g)  # [E]
        ...  # clip, weight rules and optimizer; a member that is not ok keeps everything as it was
        scaling.update(state, ok)
    """

    @abstractmethod
    def state(self, members: int, device: torch.device | str) -> dict[str, Tensor]:
        """The initial tensors [E] for so many members, by name: all of a checkpoint."""

    @abstractmethod
    def factor(self, state: dict[str, Tensor]) -> Tensor:
        """The number that each member's loss is multiplied by now: float32 [E]."""

    @abstractmethod
    def good(self, g: Tensor) -> Tensor:
        """Whether the optimizer may use each member's unscaled gradient, g [E, P]: bool [E]."""

    @abstractmethod
    def update(self, state: dict[str, Tensor], ok: Tensor) -> None:
        """Called at the end of every step with what ``good`` said; changes ``state`` in place."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost per parameter and step."""


def finite(g: Tensor) -> Tensor:
    """Whether every element of each row of g [E, P] is finite: bool [E], one pass."""
    low, high = torch.aminmax(g, dim=1)
    return low.isfinite() & high.isfinite()
