"""The probed trials of a task that a report shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ProbedTrial:
    """A probed trial.

    - ``role``: diverged, worst, best or baseline;
    - ``diverged_at``: the step where it diverged, or None; ``where``: the tensors that were not finite;
    - ``baseline_outcome``: whether the baseline diverged as well, in words;
    - ``series``: the measurements, a long frame with the columns ``probe_frame.COLUMNS``;
    - ``histograms``: (step, layer, point) -> number of blocks by the power of two of their scale.
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
    """A task's probed trials. The first is the ``focus``, which the others are compared with."""

    task: str
    trials: list[ProbedTrial]

    @property
    def focus(self) -> ProbedTrial:
        """The first trial: one that diverged, or the worst."""
        return self.trials[0]

    def of(self, role: str) -> ProbedTrial | None:
        """The first trial of a role, or None."""
        return next((one for one in self.trials if one.role == role), None)
