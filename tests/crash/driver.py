"""A driver for the crash tests, run as a script: runs a sweep file through Ray into a results folder.

usage: driver.py SWEEP RESULTS [UID ...]        the trials named by UID kill the worker that runs them
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from dse.run.engine import run_sweep
from dse.run.executors.base import LIMITS
from dse.run.store import Store
from dse.sweep import Cell, load_sweep
from dse.trial import Trial


class Deadly(Trial):
    """A trial that takes its worker with it when it gets there, as one that runs out of memory would."""

    def __reduce__(self) -> tuple[Any, ...]:
        return die, ()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(cell: Cell) -> Cell:
    trial = cell.trial
    return replace(cell, trial=Deadly(trial.task, trial.training, trial.recipe, trial.seed))


def main() -> None:
    LIMITS["cpu"] = 3  # many small packs: more moments to die at
    sweep, folder, poison = load_sweep(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3:]
    sweep = replace(sweep, cells=tuple(deadly(cell) if cell.uid in poison else cell for cell in sweep.cells))
    summary = run_sweep(sweep, Store(folder), "ray", workers=2, track=False, compact=False)
    print(summary, flush=True)


if __name__ == "__main__":
    main()
