"""Reports: one self-contained HTML page per sweep, and the data of its figures as CSV.

Records are joined with their baselines here, when they are read; nothing derived is ever stored. Plotting libraries are
imported by the call, not by the import of this package.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dse.results.record import Record
    from dse.sweep import Sweep


def write_report(sweep: Sweep, records: Iterable[Record], folder: Path, results: Path | None = None) -> Path:
    """Writes ``folder/NAME.html`` and the CSV files in ``folder/NAME/``; returns the page's path.

    ``results``: the folder that knows in which order a search has asked; without it the page does not show that.

    ``records`` may hold more than the sweep's; of several with one uid the last 'ok' one counts. Raises UserError
    where the folder is not writable.
    """
    from dse.report.write import write_report as write

    return write(sweep, records, folder, results)


__all__ = ["write_report"]
