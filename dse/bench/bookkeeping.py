"""Benchmark of what a sweep costs beside the training: storing, resuming, reports, MLflow, memory, and Ray.

No trial is trained. On a shared machine wall times vary by half from run to run, processor times by a tenth.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from dse.bench import reporting
from dse.bench.idle import IdleActor, IdleExecutor, made_up, sweep_of
from dse.bench.measurements import Measurement
from dse.results.store import Store
from dse.run import engine
from dse.run.executors.ray import RayExecutor
from dse.run.summary import Summary
from dse.run.tracking import mlflow_runs
from dse.sweep import Sweep
from dse.train.options import RunOptions
from dse.version import IMPORT_ROOT


class _Clock:
    """Seconds since it was made: on the wall, and of this process on a processor, which other load changes less."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    @property
    def wall(self) -> float:
        return time.perf_counter() - self._wall

    def note(self, count: int = 0) -> str:
        seconds = time.process_time() - self._processor
        return f"{1e3 * seconds / count:.2f} ms of one processor" if count else f"{seconds:.1f} s of one processor"


def measure(quick: bool = False) -> Iterator[Measurement]:
    """One row per figure of the bookkeeping table, as they are measured."""
    many, some = (1000, 200) if quick else (10_000, 2000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clock = _Clock()
        sweep = sweep_of(many, folder)
        yield _row("expand", f"{len(sweep.cells):,} cells", clock.wall, "s", None, clock.note())
        yield from _append(sweep, folder)
        yield from _driver(sweep, folder / "results")
        yield from _commands(sweep, folder / "results")
        yield from reporting.measure(quick)
        yield _mlflow(sweep_of(some, folder), folder / "mlflow")
        for limit in (1, 32):
            yield _ray(sweep_of(some, folder), folder / f"ray-{limit}", limit)


def _append(sweep: Sweep, folder: Path) -> Iterator[Measurement]:
    records = [made_up(cell.trial, cell.config) for cell in sweep.cells[:320]]
    size = sum(len(record.line()) for record in records) / len(records)
    for width in (1, 32):
        store = Store(folder / f"append-{width}")
        clock = _Clock()
        for i in range(0, len(records), width):
            store.append(*records[i : i + width])
        each, note = 1e3 * clock.wall / len(records), f"{clock.note(len(records))}; {size / 1000:.1f} kB a record"
        yield _row("store a record", f"packs of {width}", each, "ms", 2.0, note + ", one write and fsync per pack")


def _driver(sweep: Sweep, results: Path) -> Iterator[Measurement]:
    """A whole sweep of trials that do nothing, in this process, which counts its own memory."""
    memory = list[tuple[int, float]]()
    append = Store.append

    def watched(self: Store, *records: object) -> None:
        append(self, *records)  # type: ignore[arg-type]
        memory.append((memory[-1][0] + len(records) if memory else len(records), _resident()))

    executor = IdleExecutor(32)
    clock = _Clock()
    with mock.patch.object(Store, "append", watched):
        summary = _run(sweep, results, executor)
    note = f"claims, store, display; {clock.note()}, making records up included"
    assert summary.ran == len(sweep.cells)
    each = 1e3 * (summary.seconds - executor.seconds) / summary.ran
    yield _row("driver", f"{summary.ran:,} trials in this process", each, "ms a trial", None, note)
    (first, before), (last, after) = memory[len(memory) // 5], memory[-1]
    growth = (after - before) / (last - first)
    yield _row("memory growth", f"trials {first:,} to {last:,}", growth / 1000, "kB a trial", 10.0)


def _commands(sweep: Sweep, results: Path) -> Iterator[Measurement]:
    """Each in a process of its own, its start included; the results as shards, then as Parquet."""
    for form in ("shards", "Parquet"):
        if form == "Parquet":
            clock = _Clock()
            Store(results).compact()
            yield _row("compact", f"{len(sweep.cells):,} trials", clock.wall, "s", None, clock.note())
        for verb, target in (("status", 5.0), ("run", 10.0)):
            seconds, said = _command(verb, str(sweep.path), "--results", str(results))
            yield _row(f"dse {verb}", f"{len(sweep.cells):,} done, {form}", seconds, "s", target, said)


def _mlflow(sweep: Sweep, results: Path) -> Measurement:
    """A database of all runs, from the stored results."""
    _run(sweep, results, IdleExecutor(32))
    clock = _Clock()
    runs = mlflow_runs.rebuild(Store(results))
    return _row("MLflow's database", f"{runs:,} runs", clock.wall, "s", 180.0, clock.note())


def _ray(sweep: Sweep, results: Path, limit: int) -> Measurement:
    executor = RayExecutor(RunOptions(workers=2), IdleActor, limit)
    began = list[float]()
    append = Store.append

    def watched(self: Store, *records: object) -> None:
        began.append(time.perf_counter())
        append(self, *records)  # type: ignore[arg-type]

    with mock.patch.object(Store, "append", watched):
        summary = _run(sweep, results, executor)
    steady = (began[-1] - began[0]) / (summary.ran - limit)
    note = f"{summary.seconds:.1f} s with Ray's start and end"
    return _row("Ray, idle trials", f"{summary.ran:,} in packs of {limit}", 1e3 * steady, "ms a trial", 10.0, note)


def _run(sweep: Sweep, results: Path, executor: object) -> Summary:
    with mock.patch.object(engine, "make_executor", return_value=executor):
        return engine.run_sweep(sweep, Store(results), RunOptions(track=False, progress=False, compact=False))


def _command(*words: str) -> tuple[float, str]:
    environment = os.environ | {"PYTHONPATH": str(IMPORT_ROOT)}
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "dse.cli", *words], capture_output=True, encoding="utf-8", check=True, env=environment
    )
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, f"{cpu:.1f} s of one processor; {done.stdout.splitlines()[0][:40]}"


def _resident() -> float:
    """Bytes of this process in memory."""
    with Path("/proc/self/statm").open(encoding="utf-8") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _row(
    figure: str, variant: str, value: float, unit: str, target: float | None = None, note: str = ""
) -> Measurement:
    ratio = None if target is None else value / target
    return Measurement(figure, variant, value, unit, target, ratio, note, None if target is None else 1.0, "lower")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m dse.bench.bookkeeping", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials")
    options = parser.parse_args(arguments)
    for row in measure(options.quick):
        print(row.line(), flush=True)


if __name__ == "__main__":
    main()
