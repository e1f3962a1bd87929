"""What a sweep is made of, once expanded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dse.sweep.labels import Label
from dse.sweep.search import Search
from dse.trial import Trial

if TYPE_CHECKING:
    from dse.probes import Probes
    from dse.sweep.space import Space


@dataclass(frozen=True)
class Cell:
    """A trial of a sweep and where it stands in it.

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


@dataclass(frozen=True)
class Sweep:
    """A sweep file and everything it asks for.

    Cells have distinct trials; the baselines come first, then the rest seed by seed, so that an interrupted sweep has
    whole comparisons to show. ``axes``: every label of every axis, whether or not a cell is left there; of a range,
    those that were drawn. ``search`` tells how configurations are chosen; while it needs results to choose (tpe,
    nsga2), there are no cells yet, and ``space`` makes them, see `dse.sweep.cell_at`. ``probes`` change no trial.
    """

    name: str
    path: Path
    text: str
    cells: tuple[Cell, ...]
    excluded: tuple[Excluded, ...] = ()
    axes: Mapping[str, tuple[Label, ...]] = field(default_factory=dict)
    search: Search = field(default_factory=Search)
    space: Space | None = field(default=None, repr=False, compare=False)
    probes: Probes | None = None

    @property
    def merged(self) -> int:
        """Cells without a trial of their own, because another cell is the same trial."""
        return sum(len(cell.also) for cell in self.cells)
