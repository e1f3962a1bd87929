"""What diverged, what failed, what was not run and what was excluded, grouped for reading."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dse.report.numbers import UNKNOWN
from dse.report.table import MISSING, Table, dicts, text
from dse.run.record import DIVERGED, FAILED

if TYPE_CHECKING:
    from dse.sweep import Excluded, Sweep

MOST = 200


@dataclass(frozen=True)
class Divergence:
    """The diverged seeds of a task and configuration: 'step (seed)' each, and the tensors where it was first seen."""

    task: str
    config: str
    steps: str
    where: str
    seeds: str  # 'k of n'


@dataclass(frozen=True)
class Failure:
    """Trials that failed with the same last line of their traceback; ``traceback`` is the first one's."""

    error: str
    cells: list[str]
    traceback: str


@dataclass(frozen=True)
class Exclusion:
    """Cells excluded for one reason; ``examples`` are at most MOST."""

    reason: str
    count: int
    examples: list[str]


def divergences(table: Table) -> list[Divergence]:
    """One per task and configuration with a diverged seed, in the table's order."""
    if table.frame.empty:
        return []
    seeds = Counter(zip(table.frame["task"], table.frame["config"], strict=True))
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in dicts(table.frame[table.frame["status"] == DIVERGED]):
        groups.setdefault((cell["task"], cell["config"]), []).append(cell)
    found = []
    for key, cells in groups.items():
        steps = [f"{_step(cell['diverged_at'])} (seed {cell['seed']})" for cell in cells]
        where = dict.fromkeys(cell["diverged_where"] for cell in cells if cell["diverged_where"])
        found.append(Divergence(*key, ", ".join(steps), ", ".join(where), f"{len(cells)} of {seeds[key]}"))
    return found


def _step(at: float) -> str:
    return UNKNOWN if math.isnan(at) else f"{at:,.0f}"


def failures(table: Table) -> list[Failure]:
    """Grouped by the last line of the traceback, most frequent first."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for record in table.records.values():
        if record.status == FAILED:
            trace = (record.error or "no traceback was recorded").strip()
            cell = f"{record.task}, {record.config}, seed {record.seed}"
            groups.setdefault(trace.splitlines()[-1], []).append((cell, trace))
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [Failure(last, [cell for cell, _ in cells], cells[0][1]) for last, cells in ordered]


def missing(table: Table) -> dict[str, int]:
    """Task -> cells that have no record yet."""
    if table.frame.empty:
        return {}
    counts = table.frame[table.frame["status"] == MISSING]["task"].value_counts()
    return {str(task): int(n) for task, n in counts.items()}


def merged(sweep: Sweep) -> dict[str, str]:
    """Configuration -> the configuration that is the very same trial and stands for it."""
    from dse.sweep import config_of

    return {config_of(labels): cell.config for cell in sweep.cells for labels in cell.also}


def exclusions(excluded: Iterable[Excluded]) -> list[Exclusion]:
    """Grouped by reason, most frequent first."""
    groups: dict[str, list[str]] = {}
    for cell in excluded:
        shown = ", ".join(f"{axis} = {text(value)}" for axis, value in cell.labels.items())
        groups.setdefault(cell.reason, []).append(shown)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [Exclusion(reason, len(cells), cells[:MOST]) for reason, cells in ordered]
