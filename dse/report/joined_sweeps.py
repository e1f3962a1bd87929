"""Several sweeps as one, for a report: their cells together, trials that are in several of them once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.sweep.cells.cell import Cell, Excluded
from dse.sweep.cells.sweep import Sweep
from dse.sweep.definition.search import Search
from dse.sweep.language.labels import Label, config_of

if TYPE_CHECKING:
    from dse.sweep.definition.halving import Halving
    from dse.trial import Trial

AXIS = "sweep"
"""The axis that tells sweeps apart which train the same task otherwise."""


def join_sweeps(sweeps: Sequence[Sweep]) -> Sweep:
    """One sweep with the cells of all, under the name 'A + B'; a single one is itself.

    - A trial in several sweeps is one cell, with the name that the first gives it. So baselines are shared where they
      are the very same trials, and only there.
    - Where one name means different trials of a task, each bears its sweep's: 'mxfp4 [A]'. If
      baselines are among them (the sweeps train a task otherwise), what is not shared has its sweep's name on the axis
      ``sweep`` too, so that only trials of one training are compared; else it is the recipe that bears the name.
    - ``places`` and ``save`` are those that any of them names, in the order of the files.
    - The order in which a search asked is that of a sweep alone; it is left out.

    Raises UserError for sweeps with different first baselines, tasks of one name that are different ones, or rungs at
    different places: their gaps mean different things.
    """
    if len(sweeps) == 1:
        return sweeps[0]
    names = _names(sweeps)
    _check_tasks(sweeps)
    _check_baselines(sweeps)
    meeting, apart = _meeting(sweeps)
    cells: dict[str, Cell] = {}
    owners = _owners(sweeps)
    for name, sweep in zip(names, sweeps, strict=True):
        for cell in sweep.cells:
            shared = len(owners[cell.uid]) > 1
            own = cell if shared else _named(cell, name, cell.config in meeting, apart)
            cells[cell.uid] = _merged(cells[cell.uid], own) if cell.uid in cells else own
    found = [*cells.values()]
    return Sweep(
        name=" + ".join(names),
        path=sweeps[0].path,
        text="\n".join(f"# {sweep.path}\n{sweep.text}" for sweep in sweeps),
        cells=tuple([cell for cell in found if cell.is_baseline] + [cell for cell in found if not cell.is_baseline]),
        excluded=tuple(_excluded(sweeps)),
        axes=_axes(sweeps, found, names if apart else []),
        search=Search(halving=_halving(sweeps)),
        probes=next((sweep.probes for sweep in sweeps if sweep.probes), None),
        save=tuple(dict.fromkeys(kind for sweep in sweeps for kind in sweep.save)),
        parts=tuple(sweeps),
        places=tuple(dict.fromkeys(place for sweep in sweeps for place in sweep.places)),
    )


def _names(sweeps: Sequence[Sweep]) -> list[str]:
    """A name of its own for each: that of the sweep or, where two have the same, its file's path."""
    own = [sweep.name for sweep in sweeps]
    found = [name if own.count(name) == 1 else str(s.path) for name, s in zip(own, sweeps, strict=True)]
    if twice := next((name for name in found if found.count(name) > 1), None):
        raise UserError(f"{twice} is named twice; a report joins different sweeps")
    return found


def _check_tasks(sweeps: Sequence[Sweep]) -> None:
    seen: dict[Label, tuple[str, str, Sweep]] = {}
    for sweep in sweeps:
        for cell in sweep.cells:
            task = cell.trial.task
            label, kind = cell.labels["task"], (task.name, task.metric)
            known = seen.setdefault(label, (*kind, sweep))
            if known[:2] != kind:
                raise UserError(
                    f"task {label!r} is {known[0]} ({known[1]}) in {known[2].path} and {kind[0]} ({kind[1]}) in "
                    f"{sweep.path}; one report cannot show both under one name"
                )


def _check_baselines(sweeps: Sequence[Sweep]) -> None:
    first = {str(s.path): next((str(c.labels["recipe"]) for c in s.cells if c.is_baseline), "") for s in sweeps}
    if len({name for name in first.values() if name}) > 1:
        said = ", ".join(f"{path} compares with {name}" for path, name in first.items() if name)
        raise UserError(f"{said}; gaps to different baselines do not belong in one report")


def _meeting(sweeps: Sequence[Sweep]) -> tuple[set[str], bool]:
    """The configurations under whose name sweeps train something else, whatever the seeds; and whether baselines are
    among them."""
    seen: dict[tuple[Label, str], str] = {}
    meeting, apart = set[str](), False
    for sweep in sweeps:
        for cell in sweep.cells:
            content = _content(cell.trial)
            if seen.setdefault((cell.labels["task"], cell.config), content) != content:
                meeting.add(cell.config)
                apart = apart or cell.is_baseline
    return meeting, apart


def _content(trial: Trial) -> str:
    """What a trial is, but for its seed."""
    return json.dumps({key: value for key, value in trial.spec.items() if key != "seed"}, sort_keys=True)


def _owners(sweeps: Sequence[Sweep]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for i, sweep in enumerate(sweeps):
        for cell in sweep.cells:
            found.setdefault(cell.uid, set()).add(i)
    return found


def _named(cell: Cell, sweep: str, meets: bool, apart: bool) -> Cell:
    """The cell of one sweep alone, with the sweep's name where it is needed."""
    config = f"{cell.config} [{sweep}]" if meets else cell.config
    also = tuple(_labels(labels, sweep, False, apart) for labels in cell.also)
    return replace(cell, config=config, labels=_labels(cell.labels, sweep, meets, apart), also=also)


def _labels(labels: Mapping[str, Label], sweep: str, meets: bool, apart: bool) -> Mapping[str, Label]:
    if apart:
        return {**labels, AXIS: sweep}
    return {**labels, "recipe": f"{labels['recipe']} [{sweep}]"} if meets else labels


def _merged(first: Cell, other: Cell) -> Cell:
    """A trial in two sweeps: under the first one's name, also under the labels of the other."""
    labels = [*first.also, *(own for own in (other.labels, *other.also) if own != first.labels)]
    unique = [own for i, own in enumerate(labels) if own not in labels[:i]]
    return replace(first, also=tuple(unique), baselines={**other.baselines, **first.baselines})


def _excluded(sweeps: Sequence[Sweep]) -> Iterator[Excluded]:
    """Excluded cells that no sweep has; equal ones once."""
    there = {config_of(labels) for sweep in sweeps for cell in sweep.cells for labels in (cell.labels, *cell.also)}
    found = {f"{one.labels}{one.reason}": one for sweep in sweeps for one in sweep.excluded}
    yield from (one for one in found.values() if config_of(one.labels) not in there)


def _axes(sweeps: Sequence[Sweep], cells: Sequence[Cell], names: Sequence[str]) -> dict[str, tuple[Label, ...]]:
    """Every label of every axis, in the order of the files; recipes as the cells bear them."""
    found: dict[str, list[Label]] = {}
    for sweep in sweeps:
        for axis, labels in sweep.axes.items():
            found.setdefault(axis, []).extend(labels)
    found["recipe"] = [*found.get("recipe", []), *(c.labels["recipe"] for c in cells)]
    if names:
        found[AXIS] = [*names]
    return {axis: tuple(dict.fromkeys(labels)) for axis, labels in found.items()}


def _halving(sweeps: Sequence[Sweep]) -> Halving | None:
    """The rungs of those sweeps that have any. Raises UserError where they are at different places."""
    known = [(sweep.path, sweep.search.halving) for sweep in sweeps if sweep.search.halving]
    for path, halving in known:
        if halving != known[0][1]:
            raise UserError(f"{known[0][0]} and {path} stop trials at different rungs; report them one by one")
    return known[0][1] if known else None


__all__ = ["AXIS", "join_sweeps"]
