"""What an optimizer technique is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from dse.ops import Ops


class Settings(Protocol):
    """What an optimizer reads of the training settings (``tasks.base.Training`` has it all)."""

    @property
    def lr(self) -> float:
        """Learning rate; the training loop moves it along its schedule through ``param_groups``."""

    @property
    def betas(self) -> Sequence[float]:
        """Decay rates of the first and the second moment."""

    @property
    def weight_decay(self) -> float:
        """Decoupled weight decay, a share of ``lr`` (coupled for SGD)."""


class Optimizer(ABC):
    """Makes the ``torch.optim.Optimizer`` of a training: ``OPTIMIZERS[name](parameters, training)``."""

    @abstractmethod
    def __call__(self, parameters: Iterable[Tensor], training: Settings) -> torch.optim.Optimizer:
        """An optimizer over ``parameters`` with the training's learning rate, betas and weight decay."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost per parameter and step (not per token) beyond AdamW."""
