"""The trials of a task that the report looks into, and the one that the others are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ProbedTrial:
    """A trial and its ``looks``, a long frame (``frame.COLUMNS``); ``role``: diverged, worst, best or baseline.

    ``ended``: the step where it diverged, None where it did not; ``besides``: what the baseline did;
    ``histograms``: (step, layer, point) -> blocks by the power of two of their scale.
    """

    role: str
    config: str
    recipe: str
    seed: str
    gap: float
    ended: int | None
    where: str
    besides: str
    looks: pd.DataFrame
    histograms: dict[tuple[int, str, str], dict[str, int]]


@dataclass(frozen=True)
class Scene:
    """A task's subjects; the first one is the ``suspect`` that the rest is compared with."""

    task: str
    subjects: list[ProbedTrial]

    @property
    def suspect(self) -> ProbedTrial:
        return self.subjects[0]

    def of(self, role: str) -> ProbedTrial | None:
        """The first subject of a role."""
        return next((one for one in self.subjects if one.role == role), None)
