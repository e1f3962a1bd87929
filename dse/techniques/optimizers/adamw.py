"""AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dse.ops import FREE, Ops
from dse.techniques.optimizers.base import Optimizer, Settings


@dataclass(frozen=True)
class AdamW(Optimizer):
    """w <- (1 - lr wd) w - lr m_hat / (sqrt(v_hat) + eps), with torch's eps = 1e-8.

    Cost: the baseline. Source: Loshchilov & Hutter, arXiv 1711.05101.
    """

    def __call__(self, parameters: Iterable[Tensor], training: Settings) -> torch.optim.Optimizer:
        beta1, beta2 = training.betas
        return torch.optim.AdamW(parameters, lr=training.lr, betas=(beta1, beta2), weight_decay=training.weight_decay)

    def ops(self) -> Ops:
        return FREE
