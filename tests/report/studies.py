"""Sweeps written in the tests themselves, and records that follow a rule instead of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

from dse.report.analysis.tidy import TidyTable, tabulate
from dse.results.record import DIVERGED, FAILED, Record
from dse.sweep import Cell, Sweep, load_sweep

INITIAL = 2.0
VERSIONS = {"dse": "0", "python": "3", "torch": "2", "numpy": "2"}


def sweep_of(folder: Path, text: str) -> Sweep:
    """The sweep that a YAML text describes."""
    path = folder / "x.yaml"
    path.write_text(dedent(text), encoding="utf-8")
    return load_sweep(path)


def record(cell: Cell, metric: float) -> Record:
    """A finished trial of a cell: from INITIAL straight down to ``metric`` in ten steps."""
    steps = range(0, 11, 2)
    return Record(
        uid=cell.uid,
        baseline_uid=cell.trial.baseline().uid,
        status="ok",
        task=cell.trial.task.name,
        recipe=str(cell.labels["recipe"]),
        config=cell.config,
        seed=cell.trial.seed,
        trial=cell.trial.spec,
        metric=metric,
        metric_initial=INITIAL,
        metrics={cell.trial.task.metric: metric, "accuracy": 0.5},
        curve=[[step, INITIAL + (metric - INITIAL) * step / 10] for step in steps],
        evals=[[0, INITIAL], [10, metric]],
        seconds=1.5,
        started="2026-01-02T03:04:05+00:00",
        device="cpu",
        host="here",
        data="d" * 16,
        versions=VERSIONS,
    )


def diverged(cell: Cell, step: int = 4, where: str = "parameter w is not finite") -> Record:
    return replace(_unfinished(cell), status=DIVERGED, diverged_at=step, diverged_where=where)


def failed(cell: Cell, error: str = "Traceback (most recent call last):\n  ...\nValueError: no") -> Record:
    return replace(_unfinished(cell), status=FAILED, error=error)


def _unfinished(cell: Cell) -> Record:
    return replace(record(cell, 5.0), metric=None, metrics={}, evals=[[0, INITIAL]])


def records_of(sweep: Sweep, metric: Callable[[Mapping[str, Any]], float | None]) -> list[Record]:
    """One record per cell: ``metric`` maps its labels to the final metric; None leaves it out."""
    made = [(cell, metric(cell.labels)) for cell in sweep.cells]
    return [record(cell, value) for cell, value in made if value is not None]


def table_of(folder: Path, text: str, metric: Callable[[Mapping[str, Any]], float | None]) -> TidyTable:
    """The tidy table of a sweep whose trials follow the rule ``metric``."""
    sweep = sweep_of(folder, text)
    return tabulate(sweep, records_of(sweep, metric))
