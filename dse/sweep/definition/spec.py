"""Specification of a sweep: a sweep file with its names resolved and checked, and the location of each part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dse.cost.cost_places import CostPlace
from dse.probes.schedule import Probes
from dse.recipes import RECIPES
from dse.sweep.definition.axes import Axis, Dimension, first_duplicate
from dse.sweep.definition.baselines import Baseline, read_baselines
from dse.sweep.definition.blocks import ConditionNames, LocatedBlocks, dimensions_of
from dse.sweep.definition.deployment_places import read_places
from dse.sweep.definition.entries import RecipeEntry, TaskEntry, read_recipes, read_tasks
from dse.sweep.definition.probes import read_probes
from dse.sweep.definition.save import read_save
from dse.sweep.definition.search import Search, read_search
from dse.sweep.language.ranges import Range
from dse.sweep.language.source import Location
from dse.sweep.language.values import checked_training
from dse.sweep.read.include import IncludedFile, read_files, text_of_files
from dse.text import sweep_name


@dataclass(frozen=True, eq=False)
class Spec:
    """The checked contents of a sweep file. ``exclude`` is still raw: its rules use labels, which expansion makes.

    ``at`` is the sweep's own file; ``text`` is of all its files. ``baselines``: the first is what gaps are taken to.
    """

    name: str
    at: Location
    text: str
    tasks: tuple[TaskEntry, ...]
    recipes: tuple[RecipeEntry, ...]
    baselines: tuple[Baseline, ...]
    seeds: tuple[int, ...]
    training: Mapping[str, Any]
    dimensions: tuple[Dimension, ...]
    exclude: tuple[tuple[Location, Mapping[str, Any]], ...]
    search: Search
    probes: Probes | None = None
    places: tuple[CostPlace, ...] = ()
    save: tuple[str, ...] = ()

    @property
    def axes(self) -> Iterator[Axis]:
        """Every axis in the file's order; a path may come several times, for different cells."""
        return (axis for dimension in self.dimensions for axis in dimension.axes)

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of every axis, once."""
        return tuple(dict.fromkeys(axis.path for axis in self.axes))

    @property
    def fixed(self) -> str:
        """The recipe that numerics axes leave as it is: the first baseline, if it is a plain recipe."""
        return self.baselines[0].base if self.baselines[0].plain else ""


def read_spec(path: Path) -> Spec:
    """Reads and checks a sweep file with its includes. Raises UserError, one line that begins with file:line."""
    files = read_files(path)
    root = Location(files[-1].source)
    recipes = read_recipes(_items(files, "recipes"))
    known = {**RECIPES, **{entry.recipe.name: entry.recipe for entry in recipes}}
    tasks, parts = read_tasks(_items(files, "tasks"), known)
    for key, found in (("tasks", tasks), ("recipes", recipes)):
        if not found:
            raise root.error(f"the key {key!r} is missing; a sweep needs at least tasks and recipes")
    baselines = read_baselines(_last(files, "baseline") or [(root, "bf16")], known)
    common = LocatedBlocks()
    training: dict[str, Any] = {}
    seeds = _seeds(files)
    for file in files:
        training |= checked_training(Location(file.source) / "training", file.keys.training)
        common.add(Location(file.source), file.keys)
    heads = ConditionNames({entry.label: entry.task.name for entry in tasks}, [entry.recipe.name for entry in recipes])
    searching = [file for file in files if "search" in file.keys.model_fields_set]
    searches = [read_search(Location(file.source) / "search", file.keys.search) for file in searching]
    probing = [file for file in files if "probes" in file.keys.model_fields_set]
    probes = [read_probes(Location(file.source) / "probes", file.keys.probes) for file in probing]
    saving = [file for file in files if "save" in file.keys.model_fields_set]
    saved = [read_save(Location(file.source) / "save", file.keys.save) for file in saving]
    spec = Spec(
        name=files[-1].keys.name or sweep_name(path.stem),
        at=root,
        text=text_of_files(files),
        tasks=tasks,
        recipes=recipes,
        baselines=baselines,
        seeds=seeds,
        training=training,
        dimensions=dimensions_of(common, parts, heads),
        exclude=tuple(_items(files, "exclude")),
        search=searches[-1] if searches else Search(),
        probes=probes[-1] if probes else None,
        places=read_places(_last(files, "places")),
        save=saved[-1] if saved else (),
    )
    _check_ranges(spec, has_search=bool(searches))
    return spec


def _items(files: Sequence[IncludedFile], key: str) -> list[tuple[Location, Any]]:
    """The items of a list, of all files, each with its place. What two files both say counts once."""
    found: list[tuple[Location, Any]] = []
    for file in files:
        before = [item for at, item in found if at.source is not file.source]
        at = Location(file.source) / key
        found += [(at / i, item) for i, item in enumerate(getattr(file.keys, key)) if item not in before]
    return found


def _last(files: Sequence[IncludedFile], key: str) -> list[tuple[Location, Any]]:
    """The items of a key of which the last file counts that has it."""
    for file in reversed(files):
        if key in file.keys.model_fields_set:
            at, items = Location(file.source) / key, getattr(file.keys, key)
            return [(at / i if (*at.place, i) in file.source.lines else at, item) for i, item in enumerate(items)]
    return []


def _seeds(files: Sequence[IncludedFile]) -> tuple[int, ...]:
    """Those of the last file that has some; 0, 1, 2 without."""
    given = [file for file in files if "seeds" in file.keys.model_fields_set] or [files[-1]]
    seeds = tuple(given[-1].keys.seeds)
    if (index := first_duplicate(seeds)) is not None:
        raise (Location(given[-1].source) / "seeds" / index).error(f"seeds: {seeds[index]} is listed twice")
    return seeds


def _check_ranges(spec: Spec, has_search: bool) -> None:
    """A range needs a search that knows which of its values to take."""
    for axis in spec.axes:
        if not isinstance(axis.values, Range):
            continue
        if not has_search:
            raise axis.at.error(f"{axis.path} is a range, so the sweep needs search: {{method: random, trials: 100}}")
        if spec.search.method == "grid" and not axis.values.grid_points():
            raise axis.at.error(f"{axis.path}: a grid search of this range needs its levels, the number of values")
