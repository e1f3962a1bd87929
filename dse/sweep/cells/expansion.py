"""From a sweep file to its cells: every trial it asks for, each once, with the baselines they are compared with."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

from dse.sweep.cells.cell import Cell, Excluded
from dse.sweep.cells.collect import Collector
from dse.sweep.cells.distinct import refuse_same_names
from dse.sweep.cells.draw import drawn, every
from dse.sweep.cells.expanded import Sweep
from dse.sweep.cells.pairs import SettingVariant
from dse.sweep.cells.reachable import check_reachable
from dse.sweep.cells.settings import Setting
from dse.sweep.cells.space import Assignment, Space
from dse.sweep.language.source import At
from dse.sweep.spec.axes import Dimension
from dse.sweep.spec.spec import Spec, read_spec

MOST_CELLS = 1_000_000

PairsBySetting = dict[Setting, list[SettingVariant]]
"""Setting -> the pairs that share it, and so their baselines."""


MANY_CELLS = 100_000
"""From here on expanding takes seconds: it says how far it is, and `plan` and `run` ask for ``--yes``."""

Say = Callable[[str], None]


def load_sweep(path: Path | str, say: Say | None = None, most: int | None = None) -> Sweep:
    """Reads, checks and expands a sweep file. Raises UserError: one line that begins with file:line.

    ``say`` hears how far a sweep of many cells is. One of more than ``most`` is refused before it is expanded.
    """
    spec = read_spec(Path(path))
    if most is not None and (count := count_cells(spec)) > most:
        raise _grid_of(spec).error(f"the sweep has about {count:,} cells ({factors(spec)}); --yes goes on with them")
    return expand(spec, say)


def expand(spec: Spec, say: Say | None = None) -> Sweep:
    """Every cell of a sweep; none while its search needs results to choose them.

    Raises UserError when nothing is left to run, or there is far too much.
    """
    _refuse_too_many(spec)
    with _no_collection():
        return _expand(spec, say if say and count_cells(spec) > MANY_CELLS else None)


def _expand(spec: Spec, say: Say | None) -> Sweep:
    count = count_cells(spec)
    if say:
        say(f"{spec.name}: about {count:,} cells ({factors(spec)})")
    space = Space(spec)
    listed: set[Setting] = set()
    if spec.search.needs_results:
        check_reachable(space)
        refuse_same_names(spec, ())
        return _sweep(spec, space, {}, (), ())
    groups = _grid(space, listed) if spec.search.method == "grid" else _drawn(space)
    collector = Collector(space)
    for number, seed in enumerate(spec.seeds):
        for setting, pairs in groups.items():
            collector.add(setting, pairs, seed, setting in listed)
        if say and number * 10 // len(spec.seeds) < (number + 1) * 10 // len(spec.seeds):
            say(f"{spec.name}: expanded {(number + 1) * 100 // len(spec.seeds)} %")
    if spec.search.method == "grid":
        space.exclusion.refuse_idle()
    cells, excluded = tuple(collector.cells()), tuple(collector.excluded)
    if not cells:
        text = f"nothing to run: all {len(excluded)} cells are excluded, the first because: {excluded[0].reason}"
        raise spec.at.error(text)
    refuse_same_names(spec, cells)
    return _sweep(spec, space, groups, cells, excluded)


def with_cells(sweep: Sweep, assignments: Iterable[Assignment]) -> Sweep:
    """A sweep whose cells are those of some configurations, with their baselines: what a search has asked for so far.

    Raises UserError for an assignment that is not of its space.
    """
    space = sweep.space
    assert space is not None
    groups: PairsBySetting = {}
    for assignment in assignments:
        pair = space.pair(assignment)
        groups.setdefault(pair.setting, []).append(pair)
    collector = Collector(space)
    for seed in space.spec.seeds:
        for setting, pairs in groups.items():
            collector.add(setting, pairs, seed, False)
    return _sweep(space.spec, space, groups, tuple(collector.cells()), tuple(collector.excluded))


def _sweep(
    spec: Spec, space: Space, groups: PairsBySetting, cells: tuple[Cell, ...], excluded: tuple[Excluded, ...]
) -> Sweep:
    axes = space.labels()
    if groups:
        axes["task"] = list(dict.fromkeys(setting.label for setting in groups))
    for dimension in space.axes:
        if dimension.range:
            path = dimension.axes[0].path
            found = {pair.labels[path] for pairs in groups.values() for pair in pairs} - {None, *axes[path]}
            axes[path] += sorted(found)  # type: ignore[type-var]
    frozen = {axis: tuple(labels) for axis, labels in axes.items()}
    return Sweep(spec.name, spec.at.source.path, spec.text, cells, excluded, frozen, spec.search, space, spec.probes)


def count_cells(spec: Spec) -> int:
    """About how many cells a sweep has, without expanding it: those of the axes without conditions, nothing excluded;
    of a search, those that are asked for."""
    return prod(number for _, number in _factors(spec))


def factors(spec: Spec) -> str:
    """What the count of cells is the product of: '2 tasks x 3 recipes x 5 training.lr x 4 seeds'."""
    return " x ".join(f"{number:,} {name}" for name, number in _factors(spec) if number > 1) or "1 cell"


def _factors(spec: Spec) -> list[tuple[str, int]]:
    axes = [("recipes", len(spec.recipes))]
    axes += [(d.name, len(d.listed().rows)) for d in spec.dimensions if not d.condition]
    if spec.search.trials:
        axes = [("configurations", spec.search.trials)]
    return [("tasks", len(spec.tasks)), *axes, ("seeds", len(spec.seeds))]


def _grid_of(spec: Spec) -> At:
    return spec.at / ("search" if spec.search.trials else "grid")


def _refuse_too_many(spec: Spec) -> None:
    """Before anything is expanded."""
    count = count_cells(spec)
    if count > MOST_CELLS:
        raise _grid_of(spec).error(f"the sweep has {count:,} cells; at most {MOST_CELLS:,} fit ({factors(spec)})")


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for reference cycles, of which there are none: it takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _grid(space: Space, listed: set[Setting]) -> PairsBySetting:
    """Every combination. Adds to ``listed`` the settings of the recipe that numerics axes leave as it is."""
    spec, groups, met = space.spec, PairsBySetting(), set[Dimension]()
    left = MOST_CELLS // len(spec.seeds)
    for task in spec.tasks:
        for entry in spec.recipes:
            fixed = entry.recipe.name == spec.fixed
            for picks in every(space, task, entry, met, left):
                left -= 1
                if fixed:
                    setting = space.maker.settings.get(task, picks)
                    listed.add(setting)
                    groups.setdefault(setting, [])
                else:
                    pair = space.join(task, entry, picks)
                    groups.setdefault(pair.setting, []).append(pair)
            if left < 0:
                raise (spec.at / "grid").error(f"the sweep has more than {MOST_CELLS:,} cells")
    for dimension in space.axes:
        if dimension not in met:
            raise dimension.at.error(f"{dimension.section}: no cell meets the condition of {dimension.name}")
    space.maker.variants.refuse_useless(space.axes)
    return groups


def _drawn(space: Space) -> PairsBySetting:
    """As many configurations of each task as the search tries, not counting those that mean nothing."""
    check_reachable(space)
    groups: PairsBySetting = {}
    for task in space.tasks:
        left = space.spec.search.trials or 0
        for assignment in drawn(space, task):
            pair = space.pair(assignment)
            groups.setdefault(pair.setting, []).append(pair)
            why = pair.setting.reason or pair.variant.reason
            left -= not why and any(not space.exclusion.reason(pair.at(seed)) for seed in space.spec.seeds)
            if left <= 0:
                break
    return groups
