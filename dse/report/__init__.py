"""Reports: one self-contained HTML page per sweep, and the data of its figures as CSV.

A report joins records with their baselines when it is written; results folders hold nothing derived. Plotting libraries
are imported when a report is written, not with this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dse.cost.cost_places import CostPlace
    from dse.results.record import Record
    from dse.sweep import Sweep


def write_report(
    sweep: Sweep,
    records: Iterable[Record],
    folder: Path,
    results: Path | None = None,
    places: Sequence[CostPlace] = (),
    standalone: bool = False,
) -> Path:
    """Writes ``folder/NAME.html`` and the CSV files in ``folder/NAME/``; returns the page's path.

    - ``records``: may include those of other sweeps; of several with one uid the last 'ok' one counts;
    - ``results``: the results folder, which holds the order in which a search asked; without it that is not shown;
    - ``places``: models on hardware at which times are stated, in the place of the sweep's;
    - ``standalone``: the page has no links to the files beside it, so that it can be sent alone.

    Raises UserError where the folder is not writable.
    """
    from dse.report.write import write_report as write

    return write(sweep, records, folder, results, places, standalone)


__all__ = ["write_report"]
