"""Selection of the probed trials that a report shows: diverged, worst, best and baseline, per task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.report.analysis.tidy import TidyTable, row_dicts
from dse.report.probe_summary.probe_frame import probe_frame
from dse.report.probe_summary.probed_task import ProbedTask, ProbedTrial
from dse.results.record import DIVERGED, OK

if TYPE_CHECKING:
    import pandas as pd

    from dse.results.record import Record

MAX_TASKS = 6
"""Tasks at most: each has two figures."""
_DIVERGED = 2
"""Diverged trials a task."""
BASELINE, BEST, WORST = "baseline", "best", "worst"

TidyRow = dict[str, Any]
"""A row of the table."""


def probed_tasks(table: TidyTable, configs: pd.DataFrame, results: Path | None) -> list[ProbedTask]:
    """One per task with a probed trial that diverged or is the worst; at most MAX_TASKS."""
    wanted = {task: _choose(table, configs, task) for task in table.tasks}
    probed = _probed(table, {cell["uid"] for chosen in wanted.values() for _, cell in chosen}, results)
    found = []
    for task, chosen in wanted.items():
        trials = [
            _probed_trial(table, role, cell, probed[cell["uid"]]) for role, cell in chosen if cell["uid"] in probed
        ]
        if any(one.role not in (BASELINE, BEST) for one in trials):
            found.append(ProbedTask(task, trials))
    return found[:MAX_TASKS]


def _choose(table: TidyTable, configs: pd.DataFrame, task: str) -> list[tuple[str, TidyRow]]:
    """(role, cell) in the order of interest; the best and the baseline are of the suspect's seed and training settings
    where there is one."""
    cells = row_dicts(table.frame[table.frame["task"] == task])
    chosen = [(DIVERGED, cell) for cell in _diverged(cells)]
    rows = configs[(configs["task"] == task) & configs["gap_mean"].notna() & ~configs["is_baseline"]]
    ranked = [str(name) for name in rows.sort_values("gap_mean")["config"]]
    ranked = [name for name in ranked if name not in {cell["config"] for _, cell in chosen}]
    seeds = list(dict.fromkeys([cell["seed"] for _, cell in chosen] + [cell["seed"] for cell in cells]))
    if len(ranked) > 1:
        chosen += _first(WORST, cells, ranked[-1:], seeds)
        ranked = ranked[:-1]
    base = chosen[0][1]["baseline_uid"] if chosen else ""
    beside = [cell for cell in cells if cell["baseline_uid"] == base]
    chosen += _first(BEST, beside, ranked, seeds) or _first(BEST, cells, ranked, seeds)
    shown = {cell["uid"] for _, cell in chosen}
    return chosen + [(BASELINE, cell) for cell in cells if cell["uid"] == base and base not in shown][:1]


def _diverged(cells: Sequence[TidyRow]) -> list[TidyRow]:
    """The first ones, of a configuration the earliest; unquantized ones after the others."""
    gone = [cell for cell in cells if cell["status"] == DIVERGED]
    gone.sort(key=lambda cell: (cell["is_baseline"], _last(cell["diverged_at"]), cell["config"]))
    first: dict[str, TidyRow] = {}
    for cell in gone:
        first.setdefault(cell["config"], cell)
    return list(first.values())[:_DIVERGED]


def _first(
    role: str, cells: Sequence[TidyRow], names: Sequence[str], seeds: Sequence[str]
) -> list[tuple[str, TidyRow]]:
    """The first configuration, and of it the first seed, that came to its end."""
    by = {(cell["config"], cell["seed"]): cell for cell in cells if cell["status"] == OK}
    ended = ((role, by[name, seed]) for name in names for seed in seeds if (name, seed) in by)
    return list(islice(ended, 1))


def _probed(table: TidyTable, uids: set[str], results: Path | None) -> dict[str, Record]:
    """The records with probe measurements among ``uids``; read from the results folder if the table has none."""
    known = {uid: table.records[uid] for uid in uids if uid in table.records}
    if results is not None and not any(record.probes for record in known.values()):
        from dse.results.store import Store

        found = Store(results).on_each_device(known.keys(), without=("curve", "samples"))
        known = {record.uid: record for record in found if record.device == known[record.uid].device}
    return {uid: record for uid, record in known.items() if record.probes}


def _probed_trial(table: TidyTable, role: str, cell: TidyRow, record: Record) -> ProbedTrial:
    series, histograms = probe_frame(record.probes)
    names = (cell["config"], cell["recipe"], cell["seed"], cell["gap"])
    where = record.diverged_where or ""
    return ProbedTrial(role, *names, record.diverged_at, where, _baseline_outcome(table, cell), series, histograms)


def _baseline_outcome(table: TidyTable, cell: TidyRow) -> str:
    """Whether the baseline diverged as well, in words: if it did, quantization is not the cause."""
    base = table.paired_baseline(cell["uid"])
    if cell["is_baseline"]:
        return "It is the baseline: these settings diverge without quantization."
    if base is None or base.status not in (OK, DIVERGED):
        return ""
    if base.status == OK:
        return f"The {table.baseline} trial of the same seed and settings did not diverge."
    return f"So did the {table.baseline} trial of the same seed and settings, at step {base.diverged_at:,}."


def _last(value: float) -> float:
    return math.inf if math.isnan(value) else value
