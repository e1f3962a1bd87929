"""Tables of the section on the agreement of tasks' rankings, and its CSV data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dse.number_format import SPACE, UNKNOWN, number
from dse.report.analysis.agreement import Correlation, PublishedAgreement, RankingComparison, TaskAgreement
from dse.report.analysis.task_ranking import TaskRanking
from dse.report.sections.table_rows import TableCell, count_cell, sort_key

if TYPE_CHECKING:
    import pandas as pd

_REVERSALS = 3
"""Reversals that are listed for a task."""


@dataclass(frozen=True)
class AgreementTables:
    """The section's tables.

    - ``rows``: each task compared with the reference; ``matrix``: rho between tasks;
    - ``published``: for each published ranking its name, source and unit, and a row per task;
    - ``warnings``: task, and the pairs of configurations that it reverses;
    - ``devices``: the kinds of devices that the tasks ran on.
    """

    reference: str
    rows: list[tuple[str, list[TableCell]]]
    matrix: list[tuple[str, list[TableCell | None]]]
    published: list[tuple[str, str, str, list[tuple[str, list[TableCell]]]]]
    warnings: list[tuple[str, str]]
    devices: list[str]


def agreement_tables(found: RankingComparison) -> AgreementTables:
    """The section's tables, as text and tints."""
    by = {one.task: one for one in found.agreements}
    names = [one.task for one in found.tasks]
    published: dict[str, list[PublishedAgreement]] = {}
    for comparison in found.comparisons:
        published.setdefault(comparison.published.name, []).append(comparison)
    return AgreementTables(
        reference=found.reference,
        rows=[(one.task, _row(one, by.get(one.task))) for one in found.tasks],
        matrix=[
            (name, [None if i == j else _rank(rank) for j, rank in enumerate(row)])
            for i, (name, row) in enumerate(zip(names, found.matrix, strict=True))
        ],
        published=[
            (name, mine[0].published.source, mine[0].published.unit, [(one.task, _compared(one)) for one in mine])
            for name, mine in published.items()
        ],
        warnings=[(one.task, _reversed(one)) for one in found.agreements if one.reversals],
        devices=sorted({one.device for one in found.tasks}),
    )


def agreement_frame(found: RankingComparison) -> pd.DataFrame:
    """One row per pair of tasks, and per task and published ranking; the reference's rows with what is reversed."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    info = {one.task: one for one in found.tasks}
    for one in found.agreements:
        rows.append(
            {"task": one.task, "against": found.reference, "kind": "reference"}
            | _numbers(one.rho, one.tau)
            | {"pairs": one.decided, "reversed": len(one.reversals)}
        )
    for i, a in enumerate(found.tasks):
        for j, b in enumerate(found.tasks[:i]):
            rows.append({"task": a.task, "against": b.task, "kind": "task"} | _numbers(found.matrix[i][j], None))
    for c in found.comparisons:
        rows.append(
            {"task": c.task, "against": c.published.name, "kind": "published"}
            | _numbers(c.rho, c.tau)
            | {"pairs": c.pairs, "reversed": c.pairs - c.agree, "decided": c.decided, "met": c.confirmed}
        )
    for row in rows:
        own = info[row["task"]]
        row |= {"seeds": own.seeds, "repeat": own.split_half, "seconds": own.seconds, "device": own.device}
    return pd.DataFrame(rows)


def _numbers(rho: Correlation, tau: Correlation | None) -> dict[str, Any]:
    found = {"configurations": rho.n, "spearman": rho.value, "spearman_low": rho.low, "spearman_high": rho.high}
    return found | ({"kendall": tau.value, "kendall_low": tau.low, "kendall_high": tau.high} if tau else {})


def _row(task: TaskRanking, agreement: TaskAgreement | None) -> list[TableCell]:
    head = [TableCell(number(task.seconds), task.seconds), count_cell(task.seeds), count_cell(len(task.means))]
    split_half = TableCell(number(task.split_half, 2), sort_key(-task.split_half))
    if agreement is None:
        return [*head, split_half, *(TableCell("(reference)", -math.inf) for _ in range(2)), TableCell(UNKNOWN)]
    reversals = f"{len(agreement.reversals)} of {agreement.decided}"
    return [
        *head,
        split_half,
        _rank(agreement.rho),
        _rank(agreement.tau),
        TableCell(reversals, len(agreement.reversals)),
    ]


def _compared(one: PublishedAgreement) -> list[TableCell]:
    pairs = TableCell(f"{one.agree} of {one.pairs}", -one.agree / max(1, one.pairs))
    decided = TableCell(f"{one.confirmed} of {one.decided}", one.decided - one.confirmed)
    return [_rank(one.rho), _rank(one.tau), pairs, decided, count_cell(one.rho.n)]


def _rank(rank: Correlation) -> TableCell:
    """The correlation with its interval, tinted by its size; sorted by the highest first."""
    if math.isnan(rank.value):
        return TableCell(UNKNOWN, title="too few configurations in common" if not rank.n else "no order")
    text = _signed(rank.value)
    if not math.isnan(rank.low):
        text += f" ({_signed(rank.low)}{SPACE}to{SPACE}{_signed(rank.high)})"
    return TableCell(text, -rank.value, round(max(0.0, rank.value), 3), f"{rank.n} configurations")


def _signed(x: float) -> str:
    return f"{x:.2f}".replace("-", "−")


def _reversed(one: TaskAgreement) -> str:
    pairs = [
        f"{r.worse} before {r.better} (by {_apart(-r.here)}, where the reference has it {_apart(r.there)} behind)"
        for r in one.reversals[:_REVERSALS]
    ]
    more = f", and {len(one.reversals) - len(pairs)} more" if len(one.reversals) > len(pairs) else ""
    return "; ".join(pairs) + more


def _apart(x: float) -> str:
    return "a divergence" if math.isinf(x) else number(x)


__all__ = ["AgreementTables", "agreement_frame", "agreement_tables"]
