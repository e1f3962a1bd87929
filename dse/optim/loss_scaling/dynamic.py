"""A loss scale that follows the gradients' range."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.ops import Ops
from dse.optim.loss_scaling.base import LossScaling, finite

LEAST = 2.0**-24
"""The factor never falls below; gradients that are still not finite are the model's own."""


@dataclass(frozen=True)
class Dynamic(LossScaling):
    """The loss times s; s <- growth * s after ``every`` good steps in a row; s <- backoff * s after a bad one.

    A step is bad when a gradient is not finite after unscaling; it is skipped, and starts the count of good steps
    again. Powers of two scale without rounding (outside the subnormals). s does not grow out of FP32.

    State: ``factor`` float32 [E], ``good`` int64 [E]: the good steps in a row. Cost: 2 per parameter, and a flag that
    the optimizer waits for. Source: Micikevicius et al., arXiv 1710.03740; the same rule and numbers as
    torch.amp.GradScaler; arXiv 2509.17791's simulator starts at 2^10.
    Raises OptionError unless init > 0, growth >= 1, 0 < backoff < 1 and every >= 1.
    """

    init: float = 65536.0
    growth: float = 2.0
    backoff: float = 0.5
    every: int = 2000

    def __post_init__(self) -> None:
        if not self.init > 0:
            raise OptionError(f"dynamic.init must be positive, not {self.init}")
        if not self.growth >= 1 or not 0 < self.backoff < 1:
            raise OptionError(f"dynamic needs growth >= 1 and 0 < backoff < 1, not {self.growth} and {self.backoff}")
        if self.every < 1:
            raise OptionError(f"dynamic.every must be at least 1, not {self.every}")

    def state(self, members: int, device: torch.device | str) -> dict[str, Tensor]:
        factor = torch.full((members,), self.init, dtype=torch.float32, device=device)
        return {"factor": factor, "good": torch.zeros(members, dtype=torch.int64, device=device)}

    def factor(self, state: dict[str, Tensor]) -> Tensor:
        return state["factor"]

    def good(self, g: Tensor) -> Tensor:
        return finite(g)

    @torch.no_grad()
    def update(self, state: dict[str, Tensor], ok: Tensor) -> None:
        factor, row = state["factor"], state["good"] + 1
        grow = ok & (row == self.every)
        larger = factor * self.growth
        kept = torch.where(grow & larger.isfinite(), larger, factor)
        factor.copy_(torch.where(ok, kept, (factor * self.backoff).clamp_min(LEAST)))
        state["good"].copy_(torch.where(ok & ~grow, row, 0))

    def ops(self) -> Ops:
        return Ops(element=2, syncs=1, why="2/parameter to unscale and to look for infinities")
