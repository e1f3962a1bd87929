"""Results of a sweep as data frames: one row per cell, for notebooks and figures of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dse.results.store import Store

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from dse.results.record import Record
    from dse.sweep import Sweep


class Results:
    """A results folder, read as data frames.

    ``sweep`` is a sweep, or the path of its file. Every call reads the folder anew, also while a sweep is running.

    >>> Results("results").frame("sweeps/quickstart.yaml")  # doctest: +SKIP
    """

    def __init__(self, folder: Path | str = "results") -> None:
        self.store = Store(Path(folder))

    @property
    def folder(self) -> Path:
        """The results folder."""
        return self.store.folder

    def records(self, sweep: Sweep | Path | str) -> list[Record]:
        """The records of the sweep's trials, baselines among them; whole, with their curves."""
        return self.store.records(_uids(self._sweep(sweep)))

    def frame(self, sweep: Sweep | Path | str) -> pl.DataFrame:
        """One row per cell of the sweep, with a result or without (status 'missing'); unknown numbers are null.

        The columns are those of a report's ``trials.csv`` (``dse.report.analysis.tidy.TidyTable``), among them uid,
        task, recipe, config, seed, one for each axis of the grid, status, metric, ``metrics.NAME`` for each held-out
        metric, gap (metric minus that of the baseline), lost (gap as a share of the baseline's improvement), overhead,
        seconds.
        """
        import polars as pl

        return pl.from_pandas(self.pandas(sweep))

    def pandas(self, sweep: Sweep | Path | str) -> pd.DataFrame:
        """The same as a pandas frame; unknown numbers are NaN."""
        from dse.report.analysis.tidy import tabulate

        known = self._sweep(sweep)
        frame = tabulate(known, self.store.on_each_device(_uids(known), brief=True)).frame
        return frame.assign(seed=frame["seed"].astype(int))

    def _sweep(self, sweep: Sweep | Path | str) -> Sweep:
        """With the cells that a search has asked for so far."""
        from dse.run.search import with_asked_cells
        from dse.sweep import Sweep, load_sweep

        return with_asked_cells(sweep if isinstance(sweep, Sweep) else load_sweep(sweep), self.folder)


def _uids(sweep: Sweep) -> set[str]:
    return {uid for cell in sweep.cells for uid in (cell.uid, cell.baseline_uid, *cell.baselines.values())}


__all__ = ["Results"]
