"""Finding: trials without a final number."""

from __future__ import annotations

from collections import Counter

from dse.report.analysis.tidy import MISSING, TidyTable
from dse.report.findings.finding import Finding
from dse.results.record import DIVERGED, FAILED, STOPPED
from dse.text import listing, plural


def unfinished_trials(table: TidyTable) -> Finding | None:
    """The numbers of trials that diverged, failed, stopped or have not run, and where most diverged."""
    frame = table.frame
    counts = frame["status"].value_counts()
    diverged, failed, stopped, missing = (int(counts.get(s, 0)) for s in (DIVERGED, FAILED, STOPPED, MISSING))
    parts = [f"{diverged} diverged"] * bool(diverged) + [f"{failed} failed"] * bool(failed)
    parts += [f"{stopped} stopped early"] * bool(stopped)
    parts += [f"{missing} not run yet"] * bool(missing)
    if not parts:
        return None
    points = []
    if diverged:
        rows = frame[frame["status"] == DIVERGED]
        groups = Counter(zip(rows["recipe"], rows["task"], strict=True))
        shown = [f"{recipe} on {task} ({plural(n, 'trial')})" for (recipe, task), n in groups.most_common(5)]
        points.append(f"Diverged: {listing(shown)}{' and others' if len(groups) > 5 else ''}.")
    return Finding("Not every trial gave a number", f"Of {plural(len(frame), 'trial')}, {listing(parts)}.", points)
