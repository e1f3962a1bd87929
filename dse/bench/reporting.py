"""Benchmark of ``dse report`` on made-up results: a grid with many seeds, and a search with many configurations."""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dse.bench.idle import made_up, sweep_of
from dse.bench.measurements import Measurement
from dse.report import write_report
from dse.results.record import STOPPED, Record
from dse.results.store import Store
from dse.sweep import Cell, Sweep, load_sweep

TARGET = 60.0
"""Seconds for 10,000 trials."""

_SEARCH = """
name: reporting
tasks: [{{regression: {{training: {{steps: 100}}}}}}]
recipes: [mxfp4, nvfp4, ue5m3]
seeds: 3
baseline: {{recipe: bf16, training.lr: 1e-2}}
search: {{method: random, trials: {trials}, seed: 1, halving: {{eta: 3, rungs: [0.1, 0.3]}}}}
grid:
  training.lr: {{log: [1e-4, 1e-1]}}
  training.clip: {{uniform: [0.5, 2], step: 0.1}}
  G.rounding: [nearest_even, stochastic]
  wgrad.rotation: [none, hadamard]
"""


def measure(quick: bool = False) -> Iterator[Measurement]:
    """A row per shape: reading the store and writing the page, in this process, imports included the first time."""
    trials = 1000 if quick else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "search.yaml"
        path.write_text(_SEARCH.format(trials=trials // 3), encoding="utf-8")
        for shape, sweep in (("a grid", sweep_of(trials, folder)), ("a search with halving", load_sweep(path))):
            results = folder / shape.replace(" ", "-")
            fill(sweep, Store(results))
            start = time.perf_counter()
            page = write_report(sweep, Store(results).records({c.uid for c in sweep.cells}), folder / "out", results)
            seconds = time.perf_counter() - start
            count = len({cell.config for cell in sweep.cells})
            note = f"{shape}: {count:,} configurations; page {page.stat().st_size / 1e6:.1f} MB"
            ratio = seconds / TARGET
            yield Measurement(
                "dse report", f"{len(sweep.cells):,} trials", seconds, "s", TARGET, ratio, note, 1.0, "lower"
            )


def fill(sweep: Sweep, store: Store) -> None:
    """A made-up result for every cell, in the store."""
    for i in range(0, len(sweep.cells), 500):
        own = enumerate(sweep.cells[i : i + 500], i)
        store.append(*[_result(cell, sweep.search.halving is not None and place % 3 > 0) for place, cell in own])


def _result(cell: Cell, stop: bool) -> Record:
    """A metric that depends on the learning rate; a trial that is to stop does so at the first rung, no baseline."""
    record = made_up(cell.trial, cell.config)
    lr = cell.trial.training.lr
    metric = 0.1 + 0.05 * abs(math.log10(lr) + 2) + 0.001 * cell.trial.seed
    evals: list[list[float | None]] = [[0, 1.0], [10, metric + 0.3], [30, metric + 0.1], [100, metric]]
    if cell.is_baseline or not stop:
        return replace(record, metric=metric, evals=evals)
    return replace(
        record, status=STOPPED, metric=None, evals=evals[:2], stopped={"rung": 1, "step": 10, "metric": metric + 0.3}
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m dse.bench.reporting", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials")
    options = parser.parse_args(arguments)
    for row in measure(options.quick):
        print(row.line(), flush=True)


if __name__ == "__main__":
    main()
