"""Estimates how long trials take: from earlier trials of the same kind, or from a few steps timed now."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from dse.errors import UserError
from dse.plan.timing import JsonCache, TimedRecord, TimingKeys, TrialTimes, newest_device
from dse.plan.timing_probe import Probe, probe_seconds
from dse.sweep.cells.cell import Cell
from dse.tasks.base import Training

PROBED = "probed"
"""Source of a time that was measured on a few steps now; the other sources are those of ``dse.plan.timing``."""


_Key = tuple[str, ...]


@dataclass(frozen=True)
class Timing:
    """Expected seconds of a trial on one worker, and where the figure is from."""

    seconds: float
    source: str


def estimate(cells: Iterable[Cell], history: Iterable[TimedRecord], device: str | None = None) -> dict[str, Timing]:
    """uid -> timing, for every cell of which like trials are in ``history``: see ``TrialTimes``. ``device``: the kind
    (cpu, gpu) of the trials that count, by default of the one that was completed last."""
    records, times, keys = list(history), TrialTimes(device), TimingKeys()
    if device is None:
        times.device = newest_device(record for record in records if hasattr(record, "device"))
    for record in records:
        times.add(record)
    found = {}
    for cell in cells if times.trials else ():
        if own := times.of(keys.of(cell.trial.spec)):
            found[cell.uid] = Timing(own.seconds, own.source)
    return found


def probe_missing(
    cells: Iterable[Cell],
    known: Mapping[str, Timing],
    data_dir: Path | None = None,
    budget: float = 10.0,
    on_probe: Callable[[Cell], None] | None = None,
    on_failure: Callable[[Cell, Exception], None] | None = None,
) -> dict[str, Timing]:
    """uid -> timing for the cells that ``known`` lacks, by timing a few steps of each (task, batch, recipe) among them.

    Probing stops after about ``budget`` seconds, having gone round the tasks: what is left takes the mean of its
    task's probes, or nothing when there is none. ``on_failure`` is told of what cannot be timed because it fails.
    Raises UserError when a task's data are missing.
    """
    groups: dict[_Key, dict[_Key, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    texts = JsonCache()
    for cell in cells:
        if cell.uid not in known:
            spec, batch = cell.trial.spec, str(cell.trial.training.batch)
            kind = "post" * (cell.trial.recipe.post is not None)
            workload: _Key = (texts.text(spec.get("task")), texts.text(spec.get("options")), batch, kind)
            groups[workload][(texts.text(spec.get("recipe")),)].append(cell)
    end = time.perf_counter() + budget
    probes: dict[_Key, dict[_Key, Probe]] = defaultdict(dict)
    turns = _round_robin(groups)
    for turn, (workload, recipe) in enumerate(turns):
        left = end - time.perf_counter()
        if left <= 0:
            break
        cell = groups[workload][recipe][0]
        if on_probe:
            on_probe(cell)
        try:
            probes[workload][recipe] = probe_seconds(cell.trial, data_dir, limit=left / (len(turns) - turn))
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - a trial that fails is a result when it runs
            if on_failure:
                on_failure(cell, error)
    found = {}
    for workload, recipes in groups.items():
        known_probes = list(probes[workload].values())
        for recipe, members in recipes.items():
            use = [probes[workload][recipe]] if recipe in probes[workload] else known_probes
            expected: dict[Training, Timing] = {}
            for cell in members if use else ():
                training = cell.trial.training
                if training not in expected:
                    after = bool(workload[-1])
                    expected[training] = Timing(fmean(p.seconds(training, after) for p in use), PROBED)
                found[cell.uid] = expected[training]
    return found


def _round_robin(groups: Mapping[_Key, Mapping[_Key, Any]]) -> list[tuple[_Key, _Key]]:
    """(workload, recipe) pairs, so that every workload comes once before any comes twice."""
    turns = [(turn, workload, recipe) for workload, r in groups.items() for turn, recipe in enumerate(r)]
    return [(workload, recipe) for _, workload, recipe in sorted(turns, key=lambda t: t[0])]
