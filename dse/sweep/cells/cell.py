"""Cells of a sweep: a trial with its labels on the axes and its baselines, or the reason why it will not run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dse.sweep.language.labels import Label
from dse.trial import Trial


@dataclass(frozen=True)
class Cell:
    """A trial of a sweep, with its labels on the axes and the baselines that it is compared with.

    - ``labels``: axis -> label, in the order task, recipe, seed, then the grid's axes as written. A baseline has None
      on the axes of numerics, which do not apply to it;
    - ``config``: recipe and overrides as short text; (labels["task"], config, seed) is unique in a sweep;
    - ``baseline_uid``: the trial it is compared with; its own uid when it is a baseline;
    - ``baselines``: every baseline of the sweep by name, with its trial; the first one is ``baseline_uid``;
    - ``also``: the labels of further cells that turned out to be this very trial (their override equals what the recipe
      has anyway, say); `dse.sweep.config_of` gives their text.
    """

    trial: Trial
    labels: Mapping[str, Label]
    config: str
    baseline_uid: str
    is_baseline: bool
    also: tuple[Mapping[str, Label], ...] = ()
    baselines: Mapping[str, str] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        """The trial's identity."""
        return self.trial.uid


@dataclass(frozen=True)
class Excluded:
    """A cell that will not run, and why."""

    labels: Mapping[str, Label]
    reason: str
