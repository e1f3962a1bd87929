"""Problems: trials that diverged, stopped, failed, have not run or were excluded, in groups."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.number_format import UNKNOWN, number
from dse.report.analysis.tidy import MISSING, TidyTable, label_text, row_dicts
from dse.results.outcome import OUTCOMES, outcome, reason
from dse.results.record import DIVERGED, FAILED, STOPPED
from dse.shell import command

if TYPE_CHECKING:
    from dse.sweep import Excluded, Sweep

MOST = 200


@dataclass(frozen=True)
class Divergence:
    """The diverged seeds of a task and configuration: 'step (seed)' each, and the tensors where it was first seen;
    ``why``: the command that shows the details of the first."""

    task: str
    config: str
    steps: str
    where: str
    seeds: str  # 'k of n'
    why: str


@dataclass(frozen=True)
class StoppedGroup:
    """The seeds of a task and configuration that successive halving stopped at one rung, and their metric there."""

    task: str
    config: str
    rung: int
    step: int
    seeds: str  # 'k of n: which'
    metric: str
    why: str


@dataclass(frozen=True)
class FailedTrial:
    """A failed trial: its name, and the command that shows its details."""

    cell: str
    why: str


@dataclass(frozen=True)
class FailureGroup:
    """Trials of one kind of failure (`dse.results.outcome`) with the same last line.

    ``traceback``: the first one's.
    """

    kind: str
    error: str
    cells: list[FailedTrial]
    traceback: str


@dataclass(frozen=True)
class ExcludedGroup:
    """Cells excluded for one reason; ``examples`` are at most MOST."""

    reason: str
    count: int
    examples: list[str]


def divergences(table: TidyTable, results: Path | None = None) -> list[Divergence]:
    """One per task and configuration with a diverged seed, in the table's order."""
    seeds = _seeds(table)
    found = []
    for key, cells in _groups(table, DIVERGED).items():
        steps = [f"{_step(cell['diverged_at'])} (seed {cell['seed']})" for cell in cells]
        where = dict.fromkeys(cell["diverged_where"] for cell in cells if cell["diverged_where"])
        of = f"{len(cells)} of {seeds[key]}"
        found.append(Divergence(*key, ", ".join(steps), ", ".join(where), of, _why(cells[0]["uid"], results)))
    return found


def stops(table: TidyTable, results: Path | None = None) -> list[StoppedGroup]:
    """One per task, configuration and rung at which some of its seeds stopped; early rungs first."""
    seeds = _seeds(table)
    found = []
    for (task, config), cells in _groups(table, STOPPED).items():
        by_place: dict[tuple[float, float], list[dict[str, Any]]] = {}
        for cell in cells:
            by_place.setdefault((cell["stopped_rung"], cell["stopped_at"]), []).append(cell)
        for (rung, step), mine in by_place.items():
            which = f"{len(mine)} of {seeds[task, config]}: {', '.join(cell['seed'] for cell in mine)}"
            metric = ", ".join(number(cell["stopped_metric"]) for cell in mine)
            place = [0 if math.isnan(x) else int(x) for x in (rung, step)]
            found.append(StoppedGroup(task, config, place[0], place[1], which, metric, _why(mine[0]["uid"], results)))
    return sorted(found, key=lambda stop: (stop.rung, stop.step))


def failures(table: TidyTable, results: Path | None = None) -> list[FailureGroup]:
    """Grouped by kind and by the last line of the error, in the order of ``OUTCOMES``, most frequent first."""
    groups: dict[tuple[str, str], list[tuple[FailedTrial, str]]] = {}
    for record in table.records.values():
        if record.status == FAILED:
            trace = (record.error or "no traceback was recorded").strip()
            cell = FailedTrial(f"{record.task}, {record.config}, seed {record.seed}", _why(record.uid, results))
            groups.setdefault((outcome(record), reason(record)), []).append((cell, trace))
    ordered = sorted(groups.items(), key=lambda item: (OUTCOMES.index(item[0][0]), -len(item[1])))
    return [FailureGroup(*kind, [cell for cell, _ in cells], cells[0][1]) for kind, cells in ordered]


def missing(table: TidyTable) -> dict[str, int]:
    """Task -> cells that have no record yet."""
    if table.frame.empty:
        return {}
    counts = table.frame[table.frame["status"] == MISSING]["task"].value_counts()
    return {str(task): int(n) for task, n in counts.items()}


def merged(sweep: Sweep) -> dict[str, str]:
    """Configuration -> the configuration with the same trial, under which it is listed."""
    from dse.sweep import config_of

    return {config_of(labels): cell.config for cell in sweep.cells for labels in cell.also}


def exclusions(excluded: Iterable[Excluded]) -> list[ExcludedGroup]:
    """Grouped by reason, most frequent first."""
    groups: dict[str, list[str]] = {}
    for cell in excluded:
        shown = ", ".join(f"{axis} = {label_text(value)}" for axis, value in cell.labels.items())
        groups.setdefault(cell.reason, []).append(shown)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [ExcludedGroup(reason, len(cells), cells[:MOST]) for reason, cells in ordered]


def _groups(table: TidyTable, status: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(task, config) -> its cells with a status, in the table's order."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    if not table.frame.empty:
        for cell in row_dicts(table.frame[table.frame["status"] == status]):
            groups.setdefault((cell["task"], cell["config"]), []).append(cell)
    return groups


def _seeds(table: TidyTable) -> Counter[tuple[str, str]]:
    """(task, config) -> its cells."""
    return Counter() if table.frame.empty else Counter(zip(table.frame["task"], table.frame["config"], strict=True))


def _step(at: float) -> str:
    return UNKNOWN if math.isnan(at) else f"{at:,.0f}"


def _why(uid: str, results: Path | None) -> str:
    return command("why", uid, results=results)
