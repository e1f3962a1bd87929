"""Benchmark of a second GPU: the same sweep through Ray with one worker and with two, each started from nothing.

On a machine with two GPUs: python -m dse.bench.workers --device cuda --out FILE.json

Needs Ray, pydantic and ruamel.yaml beside torch. The rate counts the trials that end between the first pack of the
slowest worker (until then it starts and compiles) and the last pack; a worker without work at the end counts as a loss.
The wall clock, Ray's start and end included, is a row of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from dse.bench.measurements import Measurement, document, write
from dse.results.record import OK, Record
from dse.results.store import Store
from dse.run.executors.actor import Actor
from dse.train.context import OnStep
from dse.train.halving import RungTarget
from dse.train.options import RunOptions
from dse.trial import Trial
from dse.version import IMPORT_ROOT

TARGET = 0.95
"""Of twice one GPU's rate, with two."""
_LIMIT = 280.0  # seconds for one run
_SWEEP = """
name: workers
tasks:
  - lm: {{training: {{steps: {steps}}}}}
recipes: [bf16, mxfp4, nvfp4, mxfp4_rht_sr]
seeds: {seeds}
"""


@dataclass(frozen=True)
class WorkersSize:
    """``packs`` of ``width`` trials of so many ``steps``."""

    packs: int
    width: int
    steps: int

    @property
    def trials(self) -> int:
        return self.packs * self.width


SIZES = {"cuda": WorkersSize(24, 64, 200), "cpu": WorkersSize(12, 4, 20)}
QUICK = WorkersSize(4, 4, 4)


@dataclass(frozen=True)
class WorkersRun:
    """A sweep by so many ``workers``: ``wall`` seconds of all, and when how many trials came in: (seconds, trials)."""

    workers: int
    wall: float
    landed: tuple[tuple[float, int], ...]

    @property
    def rate(self) -> float:
        """Trials per second after every worker's first pack."""
        first = self.workers - 1
        seconds = self.landed[-1][0] - self.landed[first][0]
        return sum(count for _, count in self.landed[first + 1 :]) / seconds


class Even(Actor):
    """A Ray worker that takes every pack as it comes: a width that it measures would differ from run to run."""

    def run(
        self,
        trials: Sequence[Trial],
        configs: Sequence[str],
        width: int | None,
        on_step: OnStep | None = None,
        target: RungTarget | None = None,
        splits: tuple[str, ...] = (),
    ) -> list[Record]:
        return super().run(trials, configs, len(trials), on_step, target, splits)


def measure_workers(device: str, folder: Path, size: WorkersSize) -> list[Measurement]:
    """One worker, then two. Raises RuntimeError where they disagree on a trial."""
    sweep = folder / "workers.yaml"
    sweep.write_text(_SWEEP.format(steps=size.steps, seeds=size.trials // 4), encoding="utf-8")
    one, two = (_apart(sweep, folder / str(count), device, count, size.width) for count in (1, 2))
    note = compare(*(Store(folder / str(count)).records() for count in (1, 2)))
    target = TARGET if device.startswith("cuda") else None
    row = [f"{run.wall:.1f} s wall clock, {len(run.landed)} packs" for run in (one, two)]
    note = f"half of one worker's; {note}"
    variant = f"{size.trials} lm trials"
    return [
        Measurement("one worker", variant, one.rate, "trials/s", note=row[0]),
        Measurement(
            "two workers", variant, two.rate, "trials/s", 2 * one.rate, two.rate / (2 * one.rate), row[1], target
        ),
        Measurement(
            "wall clock", variant, two.wall, "s", one.wall / 2, one.wall / 2 / two.wall, "half of one worker's; " + note
        ),
    ]


def compare(one: Sequence[Record], two: Sequence[Record]) -> str:
    """In words, how far the results agree. Raises RuntimeError unless all succeeded, each once, as far as packs of
    other members allow: equal bits on the CPU, and on a GPU within two hundredths of the metric.
    """
    by_uid = [{record.uid: record for record in records} for records in (one, two)]
    odd = by_uid[0].keys() ^ by_uid[1].keys() or {r.uid for r in (*one, *two) if r.status != OK}
    if odd or not one or len(one) != len(two):
        raise RuntimeError(f"one worker and two have not the same results; for one: {min(odd, default='no trials')}")
    pairs = [(record, by_uid[1][record.uid]) for record in one]
    same = sum((a.metric, a.metrics, a.curve, a.evals) == (b.metric, b.metrics, b.curve, b.evals) for a, b in pairs)
    far = max(abs((a.metric or 0) - (b.metric or 0)) / abs(a.metric or 1) for a, b in pairs)
    if far > (0.02 if "cpu" not in pairs[0][0].device else 0):
        raise RuntimeError(f"metrics of one worker and of two differ by up to {far:.2g} of their size")
    return f"{same} of {len(pairs)} records equal bit for bit, metrics within {far:.1g}"


def _apart(sweep: Path, results: Path, device: str, workers: int, width: int) -> WorkersRun:
    """Runs the sweep in a process of its own, which sees so many GPUs."""
    paths = [str(IMPORT_ROOT), os.environ.get("PYTHONPATH")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if device.startswith("cuda"):
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(workers)))
    command = [sys.executable, "-m", "dse.bench.workers", "--device", device]
    command += ["--alone", str(sweep), str(results), str(workers), str(width)]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, timeout=_LIMIT, check=True, encoding="utf-8"
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return WorkersRun(found["workers"], found["wall"], tuple((when, count) for when, count in found["landed"]))


def _alone(sweep: Path, results: Path, device: str, workers: int, width: int) -> WorkersRun:
    from dse.run import engine
    from dse.run.executors.ray import RayExecutor
    from dse.sweep import load_sweep

    landed, append = list[tuple[float, int]](), Store.append

    def watched(self: Store, *records: Record) -> None:
        append(self, *records)
        landed.append((time.perf_counter(), len(records)))

    start = time.perf_counter()
    executor = RayExecutor(RunOptions("ray", workers, device=device, results=results), Even, width)
    with mock.patch.object(engine, "make_executor", return_value=executor), mock.patch.object(Store, "append", watched):
        engine.run_sweep(load_sweep(sweep), Store(results), RunOptions(progress=False, track=False, compact=False))
    return WorkersRun(workers, time.perf_counter() - start, tuple((when - start, count) for when, count in landed))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the rows and writes them."""
    parser = argparse.ArgumentParser(prog="python -m dse.bench.workers", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="few, short trials")
    for name in ("packs", "width", "steps"):
        parser.add_argument(f"--{name}", type=int, help="see Size; default by device")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--alone", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.alone:
        sweep, results, workers, width = given.alone
        print(json.dumps(asdict(_alone(Path(sweep), Path(results), given.device, int(workers), int(width)))))
        return 0
    usual = QUICK if given.quick else SIZES[given.device.partition(":")[0]]
    size = WorkersSize(given.packs or usual.packs, given.width or usual.width, given.steps or usual.steps)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_workers(given.device, Path(folder), size)
    for row in rows:
        print(row.line(), flush=True)
    if given.out:
        write(given.out, document(rows, given.device))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
