"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dse.ops import FREE, Ops
from dse.techniques.optimizers.base import Optimizer, Settings


@dataclass(frozen=True)
class SGD(Optimizer):
    """m <- beta1 m + g + wd w, w <- w - lr m: stochastic gradient descent with momentum beta1.

    Cost: none beyond AdamW. Source: torch.optim.SGD (Polyak's momentum, weight decay as an L2 penalty).
    """

    def __call__(self, parameters: Iterable[Tensor], training: Settings) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, lr=training.lr, momentum=training.betas[0], weight_decay=training.weight_decay
        )

    def ops(self) -> Ops:
        return FREE
