"""What the crash tests kill: drivers, and a process that writes and compacts as fast as it can.

As a script, a driver that runs a sweep through Ray, or by the executor that DSE_TEST_EXECUTOR names:

usage: driver.py SWEEP RESULTS [UID ...]        the trials named by UID kill the worker that runs them
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dse.results.record import OK, Record
from dse.results.store import Store
from dse.run import interrupt
from dse.run.engine import run_sweep
from dse.run.executors.devices import MAX_WIDTH
from dse.sweep import Cell, Sweep, load_sweep
from dse.train import width
from dse.train.options import RunOptions
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


def drive(sweep: Sweep, folder: Path, log: Path, room: int = 0) -> None:
    """A driver in this process, with many small packs. ``room``: bytes that a file may have, 0: as many as it likes."""
    with log.open("w", buffering=1, encoding="utf-8") as out:
        sys.stdout = sys.stderr = out
        MAX_WIDTH["cpu"] = 3
        interrupt.PACK = 1.0  # after SIGTERM a trial of seconds is a long one
        width.measured_width = lambda trials, *_: len(trials)  # type: ignore[assignment]
        if room:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        try:
            print(run_sweep(sweep, Store(folder), RunOptions("local", track=False, progress=False, compact=False)))
        except BaseException:  # noqa: BLE001 - for the log
            traceback.print_exc(file=out)
            os._exit(1)


def hammer(folder: Path, seed: int, told: Connection) -> None:
    """Appends packs of made-up records and compacts now and then, for ever; tells of every uid that is stored."""
    chance, store, count = random.Random(seed), Store(folder), 0
    while True:
        size = chance.randint(1, 4)
        uids = [f"{seed}-{count + i}" for i in range(size)]
        count += size
        store.append(*(made_up(uid, chance) for uid in uids))
        told.send(uids)
        if chance.random() < 0.3:
            store.compact()


def made_up(uid: str, chance: random.Random) -> Record:
    return Record(uid, "b", OK, "regression", "mxfp4", "mxfp4", 0, {"lr": chance.random()}, metric=chance.random())


def main() -> None:
    MAX_WIDTH["cpu"] = 3  # many small packs: more moments to die at
    interrupt.PACK = 1.0
    sweep, folder, poison = load_sweep(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3:]
    sweep = replace(sweep, cells=tuple(deadly(cell) if cell.uid in poison else cell for cell in sweep.cells))
    executor = os.environ.get("DSE_TEST_EXECUTOR", "ray")
    summary = run_sweep(sweep, Store(folder), RunOptions(executor, workers=2, track=False, compact=False))
    print(summary, flush=True)


if __name__ == "__main__":
    main()
