"""Which trials are looked into: those that diverged, the worst and the best against the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.report.inside.frame import look_frame
from dse.report.table import Table, dicts
from dse.run.record import DIVERGED, OK

if TYPE_CHECKING:
    import pandas as pd

    from dse.run.record import Record

TASKS = 6
"""Tasks at most: each has two figures."""
_DIVERGED = 2
"""Diverged trials a task."""
BASELINE, BEST, WORST = "baseline", "best", "worst"


@dataclass(frozen=True)
class Subject:
    """A trial and its ``looks``, a long frame (``frame.COLUMNS``); ``role``: diverged, worst, best or baseline.

    ``ended``: the step where it diverged, None where it did not; ``histograms``: (step, layer, point) -> blocks by the
    power of two of their scale.
    """

    role: str
    config: str
    recipe: str
    seed: str
    gap: float
    ended: int | None
    where: str
    looks: pd.DataFrame
    histograms: dict[tuple[int, str, str], dict[str, int]]


@dataclass(frozen=True)
class Scene:
    """A task's subjects; the first one is the ``suspect`` that the rest is compared with."""

    task: str
    subjects: list[Subject]

    @property
    def suspect(self) -> Subject:
        return self.subjects[0]

    def of(self, role: str) -> Subject | None:
        """The first subject of a role."""
        return next((one for one in self.subjects if one.role == role), None)


def scenes(table: Table, configs: pd.DataFrame, results: Path | None) -> list[Scene]:
    """One per task where a trial that diverged, or the worst one, was looked into; at most TASKS."""
    wanted = {task: _choose(table, configs, task) for task in table.tasks}
    probed = _probed(table, {cell["uid"] for chosen in wanted.values() for _, cell in chosen}, results)
    found = []
    for task, chosen in wanted.items():
        subjects = [_subject(role, cell, probed[cell["uid"]]) for role, cell in chosen if cell["uid"] in probed]
        if any(one.role not in (BASELINE, BEST) for one in subjects):
            found.append(Scene(task, subjects))
    return found[:TASKS]


def _choose(table: Table, configs: pd.DataFrame, task: str) -> list[tuple[str, dict[str, Any]]]:
    """(role, cell) in the order of interest, all of one seed where that is possible."""
    cells = dicts(table.frame[table.frame["task"] == task])
    by = {(cell["config"], cell["seed"]): cell for cell in cells}
    gone = sorted((c for c in cells if c["status"] == DIVERGED), key=lambda c: (_last(c["diverged_at"]), c["config"]))
    first = {cell["config"]: cell for cell in reversed(gone)}  # of a configuration, its earliest
    chosen = [(DIVERGED, cell) for cell in sorted(first.values(), key=lambda c: _last(c["diverged_at"]))][:_DIVERGED]
    rows = configs[(configs["task"] == task) & configs["gap_mean"].notna() & ~configs["is_baseline"]]
    ranked = [str(name) for name in rows.sort_values("gap_mean")["config"]]
    seeds = list(dict.fromkeys([cell["seed"] for _, cell in chosen] + [cell["seed"] for cell in cells]))
    ranked = [name for name in ranked if name not in {cell["config"] for _, cell in chosen}]
    if len(ranked) > 1:
        chosen += _first(WORST, by, [ranked[-1]], seeds)
    chosen += _first(BEST, by, ranked[:1], seeds)
    return chosen + _first(BASELINE, by, [c["config"] for c in cells if c["is_baseline"]][:1], seeds)


def _first(role: str, by: dict[tuple[str, str], Any], names: Sequence[str], seeds: Sequence[str]) -> list[Any]:
    found = (by.get((name, seed)) for name in names for seed in seeds)
    return [(role, cell) for cell in found if cell and cell["status"] == OK][:1]


def _probed(table: Table, uids: set[str], results: Path | None) -> dict[str, Record]:
    """The records with looks among some; read from the results where the table has none of them."""
    known = {uid: table.records[uid] for uid in uids if uid in table.records}
    if results is not None and not any(record.probes for record in known.values()):
        from dse.run.store import Store

        known = {record.uid: record for record in Store(results).records(known.keys(), without=("curve", "samples"))}
    return {uid: record for uid, record in known.items() if record.probes}


def _subject(role: str, cell: dict[str, Any], record: Record) -> Subject:
    looks, histograms = look_frame(record.probes)
    names = (cell["config"], cell["recipe"], cell["seed"], cell["gap"])
    return Subject(role, *names, record.diverged_at, record.diverged_where or "", looks, histograms)


def _last(value: float) -> float:
    return math.inf if math.isnan(value) else value
