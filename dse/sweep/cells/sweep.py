"""The expanded sweep: a sweep file with its cells, axes and search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dse.sweep.cells.cell import Cell, Excluded
from dse.sweep.cells.space import Space
from dse.sweep.definition.search import Search
from dse.sweep.language.labels import Label

if TYPE_CHECKING:
    from dse.cost.cost_places import CostPlace
    from dse.probes import Probes


@dataclass(frozen=True)
class Sweep:
    """A sweep file and its expansion.

    Cells have distinct trials; the baselines come first, then the rest seed by seed, so that an interrupted sweep has
    whole comparisons to show. ``axes``: every label of every axis, whether or not a cell is left there; of a range,
    those that were drawn. ``search`` tells how configurations are chosen; while it needs results to choose (tpe,
    nsga2), there are no cells yet, and ``space`` makes them, see `dse.sweep.cell_at`. ``probes`` change no trial,
    and neither does ``save``, what is kept of each beside its record.
    ``parts``: the sweeps that a report has joined to this one; none for the sweep of a file.
    ``places``: models on hardware at which reports state times; none: the usual ones.
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
    save: tuple[str, ...] = ()
    parts: tuple[Sweep, ...] = field(default=(), repr=False)
    places: tuple[CostPlace, ...] = ()

    @property
    def merged(self) -> int:
        """Cells without a trial of their own, because another cell is the same trial."""
        return sum(len(cell.also) for cell in self.cells)
