"""A constant loss scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.ops import Ops
from dse.optim.loss_scaling.base import LossScaling


@dataclass(frozen=True)
class Static(LossScaling):
    """The loss times ``scale``, always; a gradient that is not finite is used as it is, and the trial diverges.

    A power of two scales without rounding (outside the subnormals). Cost: 1 per parameter.
    Source: Micikevicius et al., arXiv 1710.03740. Raises OptionError unless the scale is positive.
    """

    scale: float = 1024.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise OptionError(f"static.scale must be positive, not {self.scale}")

    def state(self, members: int, device: torch.device | str) -> dict[str, Tensor]:
        return {"factor": torch.full((members,), self.scale, dtype=torch.float32, device=device)}

    def factor(self, state: dict[str, Tensor]) -> Tensor:
        return state["factor"]

    def good(self, g: Tensor) -> Tensor:
        return torch.ones(len(g), dtype=torch.bool, device=g.device)

    def update(self, state: dict[str, Tensor], ok: Tensor) -> None:
        """Nothing changes."""

    def ops(self) -> Ops:
        return Ops(element=1, why="1/parameter")
