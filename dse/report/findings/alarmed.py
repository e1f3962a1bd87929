"""Finding: trials whose arithmetic is off by more than their recipe explains."""

from __future__ import annotations

from dse.report.analysis.tidy import TidyTable
from dse.report.findings.finding import Finding
from dse.report.sections.alarm_rows import alarm_groups, raised
from dse.text import plural


def alarmed_trials(table: TidyTable) -> Finding | None:
    """How many trials raise alarms, and the commonest of them; None where none does."""
    found = raised(table)
    if not found:
        return None
    checked = sum(bool(record.gemm_checks) for record in table.records.values())
    sentence = (
        f"In {len(found)} of {plural(checked, 'checked trial')} a product of a layer was off by more than its recipe "
        "explains: do not trust their numbers before you know why."
    )
    points = [f"{g.config} on {g.task}, {g.where}: {g.text} ({g.seeds} seeds)." for g in alarm_groups(table)[:5]]
    return Finding("The arithmetic raises alarms", sentence, points)
