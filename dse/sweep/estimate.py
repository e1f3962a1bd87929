"""How long trials take: measured on earlier ones where there are any, probed where there are none."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from dse.errors import UserError
from dse.sweep.cells import Cell
from dse.sweep.probe import Probe, probe_seconds

MEASURED, SIMILAR, PROBED = "measured", "similar", "probed"
"""The same trial with any seed; the same task and training with other recipes; a few steps timed just now."""


class Measured(Protocol):
    """What history must tell: `dse.run.record.Record` does."""

    @property
    def status(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def trial(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Timing:
    """Expected seconds of a trial on one worker, and where the figure is from."""

    seconds: float
    source: str


def estimate(cells: Iterable[Cell], history: Iterable[Measured]) -> dict[str, Timing]:
    """uid -> timing, for every cell that history can tell about. Only trials that ran to their end count."""
    same: dict[str, list[float]] = defaultdict(list)
    similar: dict[str, list[float]] = defaultdict(list)
    for record in history:
        if record.status == "ok" and record.seconds > 0:
            same[_key(record.trial, "recipe")].append(record.seconds)
            similar[_key(record.trial)].append(record.seconds)
    found = {}
    for cell in cells:
        if exact := same.get(_key(cell.trial.spec, "recipe")):
            found[cell.uid] = Timing(fmean(exact), MEASURED)
        elif near := similar.get(_key(cell.trial.spec)):
            found[cell.uid] = Timing(fmean(near), SIMILAR)
    return found


def probe_missing(
    cells: Iterable[Cell],
    known: Mapping[str, Timing],
    data_dir: Path | None = None,
    budget: float = 10.0,
    on_probe: Callable[[Cell], None] | None = None,
) -> dict[str, Timing]:
    """uid -> timing for the cells that ``known`` lacks, by timing a few steps of each (task, batch, recipe) among them.

    Probing stops after about ``budget`` seconds, having gone round the tasks: what is left takes the mean of its
    task's probes, or nothing when there is none. Raises UserError when a task's data are missing.
    """
    groups: dict[str, dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if cell.uid not in known:
            groups[_workload(cell)][json.dumps(cell.trial.spec["recipe"], sort_keys=True)].append(cell)
    end = time.perf_counter() + budget
    probes: dict[str, dict[str, Probe]] = defaultdict(dict)
    turns = _round_robin(groups)
    for turn, (workload, recipe) in enumerate(turns):
        left = end - time.perf_counter()
        if left <= 0:
            break
        cell = groups[workload][recipe][0]
        if on_probe:
            on_probe(cell)
        if probe := _try_probe(cell, data_dir, left / (len(turns) - turn)):
            probes[workload][recipe] = probe
    found = {}
    for workload, recipes in groups.items():
        known_probes = list(probes[workload].values())
        for recipe, members in recipes.items():
            use = [probes[workload][recipe]] if recipe in probes[workload] else known_probes
            for cell in members:
                if use:
                    found[cell.uid] = Timing(fmean(p.seconds(cell.trial.training) for p in use), PROBED)
    return found


def _try_probe(cell: Cell, data_dir: Path | None, limit: float) -> Probe | None:
    try:
        return probe_seconds(cell.trial, data_dir, limit=limit)
    except UserError:
        raise
    except Exception:  # noqa: BLE001 - a trial that fails is a result when it runs; here it only has no estimate
        return None


def _round_robin(groups: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(workload, recipe) pairs, so that every workload comes once before any comes twice."""
    turns = [(turn, workload, recipe) for workload, r in groups.items() for turn, recipe in enumerate(r)]
    return [(workload, recipe) for _, workload, recipe in sorted(turns, key=lambda t: t[0])]


def _workload(cell: Cell) -> str:
    spec = cell.trial.spec
    return json.dumps([spec["task"], spec["options"], cell.trial.training.batch], sort_keys=True)


def _key(spec: Mapping[str, Any], *more: str) -> str:
    return json.dumps([spec.get(part) for part in ("task", "options", "training", *more)], sort_keys=True)
