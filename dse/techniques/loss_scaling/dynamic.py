"""A loss scale that follows the gradients' range."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dse.errors import OptionError
from dse.ops import Ops
from dse.techniques.loss_scaling.base import LossScaling, Scaler, all_finite

LEAST = 2.0**-24
"""The factor never falls below; gradients that are still not finite are the model's own."""


@dataclass(frozen=True)
class Dynamic(LossScaling):
    """The loss times s; s <- growth * s after ``every`` good steps in a row; s <- backoff * s after a bad one.

    A step is bad when a gradient is not finite after unscaling; it is skipped, and starts the count of good steps
    again. Powers of two scale without rounding (outside the subnormals).

    Cost: 2 per parameter, and a flag that the host waits for. Source: Micikevicius et al., arXiv 1710.03740; the same
    rule and numbers as torch.amp.GradScaler; arXiv 2509.17791's simulator starts at 2^10.
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

    def start(self) -> Scaler:
        return DynamicScaler(self)

    def ops(self) -> Ops:
        return Ops(element=2, syncs=1, why="2/parameter to unscale and to look for infinities")


class DynamicScaler(Scaler):
    """Keeps the factor and the number of good steps in a row."""

    def __init__(self, how: Dynamic) -> None:
        self.how, self.factor, self.good = how, how.init, 0

    def unscale_(self, parameters: Iterable[Tensor]) -> bool:
        found = [p for p in parameters if p.grad is not None]
        super().unscale_(found)
        return all_finite([p.grad for p in found if p.grad is not None])

    def update(self, ok: bool) -> None:
        self.good = self.good + 1 if ok else 0
        if not ok:
            self.factor = max(LEAST, self.factor * self.how.backoff)
        elif self.good == self.how.every:
            self.factor, self.good = self.factor * self.how.growth, 0

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor, "good": self.good}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.factor, self.good = state["factor"], state["good"]
