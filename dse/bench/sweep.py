"""The sweep benchmark (``dse bench sweep``): wall clock of a sweep of small trials over the time of its packs alone.

On a bare GPU machine: python -m dse.bench.sweep --device cuda --out FILE.json
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from dse.bench.measurements import Measurement, document, write
from dse.bench.rate import wait
from dse.bench.timed_packs import MIX
from dse.recipes import RECIPES
from dse.results.record import Record
from dse.results.store import Store
from dse.run.executors.local import LocalExecutor
from dse.run.queue.pack_queue import PackQueue
from dse.tasks.regression import Regression
from dse.train import loop
from dse.train.options import RunOptions
from dse.trial import Trial

if TYPE_CHECKING:
    from dse.sweep import Cell

TARGET = 1.1
"""Wall clock of the sweep over the sum of its packs, at most."""


@dataclass(frozen=True)
class _Cell:
    """The fields of a sweep's cell that executors read, without the sweep language's libraries."""

    trial: Trial
    config: str
    baseline_uid: str

    @property
    def uid(self) -> str:
        return self.trial.uid


def measure_sweep(
    device: str, quick: bool = False, trials: int = 1000, folder: Path | None = None
) -> list[Measurement]:
    """A sweep of regression trials, from the queue to the stored records, against the time that its packs took.

    Recipes of the mixed pack times seeds, through the local executor; every record is appended to a store in ``folder``
    (a temporary one by default). The device is up and its kernels are compiled before, as in a worker that lives on;
    choosing the pack's width is part of the sweep's time and not of the packs'.
    """
    cells = _cells(24 if quick else trials, 3 if quick else None)
    done: list[Record] = []
    with tempfile.TemporaryDirectory() as place:
        store = Store(folder or Path(place))
        executor = LocalExecutor(RunOptions("local", device=device))
        if device.startswith("cuda"):
            warm = [replace(cell.trial, training=replace(cell.trial.training, steps=8)) for cell in cells[: len(MIX)]]
            loop.run_pack(warm, loop.TrainContext(RunOptions(device=device)))
        with _clocked(device) as packs:
            start = time.perf_counter()

            def keep(pack: Sequence[tuple[Cell, Record]]) -> None:
                store.append(*(record for _, record in pack))
                done.extend(record for _, record in pack)

            queue = PackQueue(cast("list[Cell]", cells), executor.max_width)
            executor.run(queue, keep, lambda busy, under_way: None, threading.Event())
            wall = time.perf_counter() - start
        store.close()
    return _rows(wall, packs, done, cells[0].trial, device, quick)


def _rows(
    wall: float, packs: Sequence[float], done: Sequence[Record], trial: Trial, device: str, quick: bool
) -> list[Measurement]:
    states = {status: sum(record.status == status for record in done) for status in {r.status for r in done}}
    widths = sorted({record.pack.get("width", 1) for record in done}, reverse=True)
    facts = done[0].pack
    note = ", ".join(f"{count} {status}" for status, count in sorted(states.items()))
    note += f"; {len(packs)} packs, at most {widths[0]} wide"
    note += f"; kernels {facts.get('kernels')}, graph {facts.get('graph')}"
    rate = len(done) * trial.training.steps / wall
    target = TARGET if device.startswith("cuda") and not quick else None
    total = sum(packs)
    return [
        Measurement("sweep", f"{len(done)} regression trials", wall, "s", total, wall / total, note, target, "lower"),
        Measurement(
            "sweep", "rate", rate, "model-steps/s", note=f"{trial.training.steps} steps a trial, all costs included"
        ),
    ]


def _cells(count: int, steps: int | None) -> list[_Cell]:
    task = Regression()
    training = task.training() if steps is None else replace(task.training(), steps=steps, batch=16)
    made = [Trial(task, training, RECIPES[MIX[i % len(MIX)]], i // len(MIX)) for i in range(count)]
    return [_Cell(trial, trial.recipe.name, trial.baseline().uid) for trial in made]


@contextmanager
def _clocked(device: str) -> Iterator[list[float]]:
    """The seconds of every pack that is trained meanwhile; halves of a split pack count once."""
    plain, times, depth = loop.run_pack, list[float](), 0

    def timed(*arguments: Any, **named: Any) -> list[Record]:
        nonlocal depth
        depth += 1
        start = time.perf_counter()
        try:
            records = plain(*arguments, **named)
            wait(device)
        finally:
            depth -= 1
        if not depth:
            times.append(time.perf_counter() - start)
        return records

    loop.run_pack = timed
    try:
        yield times
    finally:
        loop.run_pack = plain


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the rows and writes them."""
    parser = argparse.ArgumentParser(prog="python -m dse.bench.sweep", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="few, short trials")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args(arguments)
    rows = measure_sweep(options.device, options.quick, options.trials)
    for row in rows:
        print(row.line(), flush=True)
    if options.out:
        write(options.out, document(rows, options.device))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
