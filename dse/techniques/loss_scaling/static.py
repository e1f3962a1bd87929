"""A constant loss scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dse.errors import OptionError
from dse.ops import Ops
from dse.techniques.loss_scaling.base import LossScaling, Scaler


@dataclass(frozen=True)
class Static(LossScaling):
    """The loss times ``factor``, always; a gradient that is not finite is used as it is, and the trial diverges.

    A power of two scales without rounding (outside the subnormals). Cost: 1 per parameter.
    Source: Micikevicius et al., arXiv 1710.03740. Raises OptionError unless the factor is positive.
    """

    factor: float = 1024.0

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise OptionError(f"static.factor must be positive, not {self.factor}")

    def start(self) -> Scaler:
        return StaticScaler(self.factor)

    def ops(self) -> Ops:
        return Ops(element=1, why="1/parameter")


class StaticScaler(Scaler):
    """Keeps nothing."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def update(self, ok: bool) -> None:
        """Nothing changes."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to load."""
