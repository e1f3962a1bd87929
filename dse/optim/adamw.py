"""AdamW."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.numerics.ops import FREE, Ops
from dse.optim.adam import adam, grow
from dse.optim.base import Hyper, Optimizer
from dse.optim.layout import Layout


@dataclass(frozen=True)
class AdamW(Optimizer):
    """w <- (1 - lr wd) w - lr m_hat / (sqrt(v_hat) + eps), with torch's eps = 1e-8.

    State: ``first``, ``second`` [E, P]; ``powers`` float64 [E, 2]: beta1^t and beta2^t after t steps of the member.
    Cost: the baseline. Source: Loshchilov & Hutter, arXiv 1711.05101.
    """

    def state(self, p: Tensor, layout: Layout) -> dict[str, Tensor]:
        powers = torch.ones(len(p), 2, dtype=torch.float64, device=p.device)
        return {"first": torch.zeros_like(p), "second": torch.zeros_like(p), "powers": powers}

    @torch.no_grad()
    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], hyper: Hyper, layout: Layout, active: Tensor
    ) -> None:
        powers = grow(state["powers"], torch.cat([hyper.beta1, hyper.beta2], 1), active)
        adam(p, g, state["first"], state["second"], powers, hyper, active, eps=1e-8)

    def ops(self) -> Ops:
        return FREE
