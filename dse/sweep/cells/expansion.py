"""Expansion: from a sweep file to its cells.

Every trial that the sweep asks for is made once, together with the baselines that it is compared with.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dse.sweep.cells.cell import Cell, Excluded
from dse.sweep.cells.cell_count import MANY_CELLS, cell_count_text, check_cell_count, count_cells
from dse.sweep.cells.collect import CellCollector
from dse.sweep.cells.grid import grid_pairs
from dse.sweep.cells.pairs import PairsBySetting
from dse.sweep.cells.reachable import check_reachable
from dse.sweep.cells.sampling import sampled_pairs
from dse.sweep.cells.settings import Setting
from dse.sweep.cells.space import Assignment, Space
from dse.sweep.cells.sweep import Sweep
from dse.sweep.cells.unique_names import check_unique_names
from dse.sweep.definition.spec import Spec, read_spec
from dse.terminal import PrintLine


def load_sweep(path: Path | str, on_progress: PrintLine | None = None, most: int | None = None) -> Sweep:
    """Reads, checks and expands a sweep file. Raises UserError: one line that begins with file:line.

    A sweep of more than ``most`` cells is refused before it is expanded.
    """
    spec = read_spec(Path(path))
    if most is not None:
        check_cell_count(spec, most)
    return expand(spec, on_progress)


def expand(spec: Spec, on_progress: PrintLine | None = None) -> Sweep:
    """The sweep with all its cells; without any while its search needs results to choose them.

    ``on_progress`` is called for sweeps of more than MANY_CELLS. Raises UserError when nothing is left to run, or more
    cells than fit.
    """
    check_cell_count(spec)
    with _paused_gc():
        return _expand(spec, on_progress if on_progress and count_cells(spec) > MANY_CELLS else None)


def with_cells(sweep: Sweep, assignments: Iterable[Assignment]) -> Sweep:
    """The sweep with the cells of these assignments and their baselines, such as those a search has asked for so far.

    Raises UserError for an assignment that is not of its space.
    """
    space = sweep.space
    assert space is not None
    groups: PairsBySetting = {}
    for assignment in assignments:
        pair = space.pair(assignment)
        groups.setdefault(pair.setting, []).append(pair)
    collector = CellCollector(space)
    for seed in space.spec.seeds:
        for setting, pairs in groups.items():
            collector.add(setting, pairs, seed, False)
    return _sweep(space, groups, tuple(collector.cells()), tuple(collector.excluded))


def _expand(spec: Spec, on_progress: PrintLine | None) -> Sweep:
    if on_progress:
        on_progress(f"{spec.name}: about {count_cells(spec):,} cells ({cell_count_text(spec)})")
    space = Space(spec)
    listed: set[Setting] = set()
    if spec.search.needs_results:
        check_reachable(space)
        check_unique_names(spec, ())
        return _sweep(space, {}, (), ())
    if spec.search.method == "grid":
        groups, listed = grid_pairs(space)
    else:
        groups = sampled_pairs(space)
    collector = CellCollector(space)
    for number, seed in enumerate(spec.seeds):
        for setting, pairs in groups.items():
            collector.add(setting, pairs, seed, setting in listed)
        if on_progress and number * 10 // len(spec.seeds) < (number + 1) * 10 // len(spec.seeds):
            on_progress(f"{spec.name}: expanded {(number + 1) * 100 // len(spec.seeds)} %")
    if spec.search.method == "grid":
        space.exclusion.check_all_matched()
    cells, excluded = tuple(collector.cells()), tuple(collector.excluded)
    if not cells:
        text = f"nothing to run: all {len(excluded)} cells are excluded, the first because: {excluded[0].reason}"
        raise spec.at.error(text)
    check_unique_names(spec, cells)
    return _sweep(space, groups, cells, excluded)


def _sweep(space: Space, groups: PairsBySetting, cells: tuple[Cell, ...], excluded: tuple[Excluded, ...]) -> Sweep:
    spec, axes = space.spec, space.labels()
    if groups:
        axes["task"] = list(dict.fromkeys(setting.label for setting in groups))
    for dimension in space.axis_dimensions:
        if dimension.range:
            path = dimension.axes[0].path
            found = {pair.labels[path] for pairs in groups.values() for pair in pairs} - {None, *axes[path]}
            axes[path] += sorted(found)  # type: ignore[type-var]
    frozen = {axis: tuple(labels) for axis, labels in axes.items()}
    search, probes, saved, at = spec.search, spec.probes, spec.save, spec.places
    return Sweep(
        spec.name, spec.at.source.path, spec.text, cells, excluded, frozen, search, space, probes, saved, places=at
    )


@contextmanager
def _paused_gc() -> Iterator[None]:
    """Pauses the garbage collector: expansion makes no reference cycles, and collecting takes a tenth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
