"""The trials of a task that the report looks into, and the one that the others are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ProbedTrial:
    """A trial and its ``series``, a long frame (``frame.COLUMNS``); ``role``: diverged, worst, best or baseline.

    ``diverged_at``: the step where it diverged, None where it did not; ``baseline_outcome``: what the baseline did;
    ``histograms``: (step, layer, point) -> blocks by the power of two of their scale.
    """

    role: str
    config: str
    recipe: str
    seed: str
    gap: float
    diverged_at: int | None
    where: str
    baseline_outcome: str
    series: pd.DataFrame
    histograms: dict[tuple[int, str, str], dict[str, int]]


@dataclass(frozen=True)
class ProbedTask:
    """A task's subjects; the first one is the ``focus`` that the rest is compared with."""

    task: str
    trials: list[ProbedTrial]

    @property
    def focus(self) -> ProbedTrial:
        return self.trials[0]

    def of(self, role: str) -> ProbedTrial | None:
        """The first subject of a role."""
        return next((one for one in self.trials if one.role == role), None)
