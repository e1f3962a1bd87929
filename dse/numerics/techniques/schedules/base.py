"""What a precision schedule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from dse.numerics.ops import Ops

FULL, FORWARD, OFF, SWITCHED = PHASES = ("full", "forward", "off", "switched")
"""Phases: the recipe as it is; its forward GEMM with BF16 backward GEMMs; BF16 everywhere; a schedule's own GEMMs."""


LONG = 1000
"""Steps of a training in which a schedule that does not state its shares is looked at."""


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

    def shares(self) -> tuple[tuple[str, float], ...]:
        """The phases in their order, each with its share of the steps of a long training, 1 in all: for its cost.

        Here those of a training of ``LONG`` steps; of a schedule that watches, the first phase alone.
        """
        if self.watches:
            return ((FULL, 1.0),)
        found: list[tuple[str, int]] = []
        before = FULL
        for step in range(LONG):
            phase = self.phase(step, LONG, None, before)
            steps = found.pop()[1] if found and phase == before else 0
            found.append((phase, steps + 1))
            before = phase
        return tuple((phase, steps / LONG) for phase, steps in found)

    @property
    def unstated(self) -> str:
        """What the shares depend on beside the schedule, and how it is counted, in a sentence; empty where nothing."""
        name = type(self).__name__
        return f"{name} changes phases by what it watches, and is counted as if it never did" if self.watches else ""
