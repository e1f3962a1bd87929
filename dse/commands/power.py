"""The command `power`: the noise of a sweep's tasks over seeds, and how many seeds it takes to see a gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from dse.commands.messages import say
from dse.errors import CommandFailed, UserError
from dse.report.analysis.power import ALPHA, MOST_SEEDS, POWER, SeedNoise, seed_noise
from dse.report.analysis.tidy import tabulate
from dse.results.store import Store
from dse.run.search import with_asked_cells
from dse.shell import command

SHARES = (0.001, 0.003, 0.01, 0.03, 0.1)
"""The default gaps: shares of the baseline's improvement from the first step to the last."""


def power(file: Path, results: Path, gaps: Sequence[float] = ()) -> None:
    """Prints a table; ``gaps``: in the metric's unit, by default shares of the baseline's improvement.

    Raises UserError for a gap that is not positive, a broken sweep file, or a sweep without results.
    """
    from dse.sweep import load_sweep

    if wrong := [gap for gap in gaps if not (gap > 0 and math.isfinite(gap))]:
        raise UserError(f"a gap must be a positive number, in the metric's unit, not {wrong[0]:g}")
    sweep = with_asked_cells(load_sweep(file, say), results)
    table = tabulate(sweep, Store(results).on_each_device(brief=True))
    if not table.records:
        first = command("run", file, results=results)
        raise CommandFailed(f"{sweep.name} has no results in {results} yet; run it first: {first}")
    heads = ["task", "metric", "seeds", "baseline", "improvement", "sd", "paired sd", "shows", *_headings(gaps)]
    rows = [heads, *(_row(one, gaps) for one in seed_noise(table))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"Seeds for a gap to show: two-sided paired t-test, {POWER:.0%} power at {ALPHA:.0%}.")
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(
        "improvement: of the baseline from first to last step; sd: of the metric over seeds; paired sd: of the\n"
        "gap to the baseline of the same seed, pooled over configurations; shows: the smallest gap that the seeds of\n"
        f"this sweep show, and what it is of the improvement; then: seeds for a gap of so much{_unit(gaps)}."
    )


def _headings(gaps: Sequence[float]) -> list[str]:
    return [f"{gap:g}" for gap in gaps] or [f"{share:.1%}" for share in SHARES]


def _row(one: SeedNoise, gaps: Sequence[float]) -> list[str]:
    sizes = list(gaps) or [share * one.improvement for share in SHARES]
    numbers = [_number(value) for value in (one.baseline, one.improvement, one.sd, one.paired)]
    share = one.detectable_gap / one.improvement if one.improvement > 0 else math.nan
    shows = _number(one.detectable_gap) + ("" if math.isnan(share) else f" ({100 * share:.2g} %)")
    return [one.task, one.metric, str(one.seeds), *numbers, shows, *(_seeds(one, size) for size in sizes)]


def _unit(gaps: Sequence[float]) -> str:
    return ", in the metric's unit" if gaps else " of the improvement"


def _seeds(one: SeedNoise, gap: float) -> str:
    if math.isnan(one.paired) or not gap > 0:
        return "?"
    needed = one.seeds_for(gap)
    return f"> {MOST_SEEDS}" if needed is None else str(needed)


def _number(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.4g}"
