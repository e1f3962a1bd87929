"""The schedule of probes: at which steps, and in which layers, a training is measured.

It is no part of a trial's identity: a training is bit-identical with and without probes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from dse.errors import UserError

ProbeRow = list[Any]
"""[step, layer, point, {name: value}]: a point of POINTS (operand), or 'dgrad', 'wgrad' (the gradient itself)."""


@dataclass(frozen=True)
class Probes:
    """When and where probes measure; checkpoints name their schedule by this class and its fields.

    ``every``: steps between two measurements, the first before step 0; ``layers``: a pattern of layer names
    (``blocks.0.*``). Raises UserError unless ``every`` is at least 1.
    """

    every: int = 50
    layers: str = "*"

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UserError(f"probes: every must be at least 1 step, not {self.every}")

    def due(self, step: int) -> bool:
        """Whether probes measure before this step."""
        return step % self.every == 0

    def wants(self, layer: str) -> bool:
        """Whether the layer's name matches the pattern."""
        return fnmatchcase(layer, self.layers)
