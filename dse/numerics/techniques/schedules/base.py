"""What a precision schedule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from dse.numerics.ops import Ops

FULL, FORWARD, OFF, SWITCHED = PHASES = ("full", "forward", "off", "switched")
"""Phases: the recipe as it is; its forward GEMM with BF16 backward GEMMs; BF16 everywhere; a schedule's own GEMMs."""


class Watch(NamedTuple):
    """What a schedule may look at: of one layer, at the last backward pass."""

    gradient_deviation: Tensor
    """Standard deviation of G, the gradient of the layer's output."""
    noise_deviation: Tensor
    """Root mean square of Q(G) - G at dgrad.lhs."""


class Schedule(ABC):
    """Decides the phase of every layer before each step. ``arithmetic``: see ``dse.numerics.registry``."""

    arithmetic: ClassVar[int] = 1

    @property
    def watches(self) -> bool:
        """Whether ``phase`` needs a Watch, which costs a quantization error per layer and backward pass."""
        return False

    @abstractmethod
    def phase(self, step: int, steps: int, watch: Watch | None, before: str) -> str:
        """The phase at step 0 .. steps - 1; ``watch`` is None before any backward pass, ``before`` the last phase."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost beyond the GEMMs that it switches."""
