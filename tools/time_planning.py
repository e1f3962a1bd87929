"""Times what `dse plan` does with a sweep of 100,000 cells: read, expand, estimate from history, plan."""

from __future__ import annotations

import argparse
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dse.plan import estimate, make_plan, plan_text
from dse.sweep import load_sweep

SETTINGS = """
# many settings: 540 recipes with options, 40 tasks and learning rates, 5 seeds
tasks: [regression, image, diffusion, lm]
recipes: [mxfp4, nvfp4, ue5m3, mxfp8]
seeds: 5
grid:
  '*.block': [8, 16, 32, 64, 128]
  G.rounding: [nearest_even, stochastic, toward_zero]
  wgrad.rotation: [none, {hadamard: {size: 16}}, {hadamard: {size: 32}}]
  dgrad.rotation: [none, {hadamard: {size: 16}}, {hadamard: {size: 32}}]
  training.lr: [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 2e-3, 3e-3, 1e-2, 3e-2, 1e-1]
"""

NUMERICS = """
# many recipes: 19,440 recipes with options, one task, 5 seeds
tasks: [regression]
recipes: [mxfp4, nvfp4, ue5m3, mxfp8]
seeds: 5
grid:
  '*.block': [8, 16, 32, 64, 128]
  X.rounding: [nearest_even, stochastic, toward_zero]
  W.rounding: [nearest_even, stochastic, toward_zero]
  G.rounding: [nearest_even, stochastic, toward_zero]
  wgrad.rotation: [none, {hadamard: {size: 16}}, {hadamard: {size: 32}}]
  dgrad.rotation: [none, {hadamard: {size: 16}}, {hadamard: {size: 32}}]
  fprop.rotation: [none, {hadamard: {size: 16}}]
  '*.scale_rounding': [nearest_even, up]
"""

T = TypeVar("T")


@dataclass
class Past:
    """An earlier trial."""

    trial: dict[str, Any]
    seconds: float = 1.0
    status: str = "ok"


def timed(what: Callable[[], T]) -> tuple[T, float, float]:
    """The result, wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    return what(), time.perf_counter() - wall, time.process_time() - processor


def measure(name: str, path: Path) -> None:
    sweep, *loading = timed(lambda: load_sweep(path))
    history = [Past(cell.trial.spec) for cell in sweep.cells[::100]]
    timings, *estimating = timed(lambda: estimate(sweep.cells, history))
    text, *planning = timed(lambda: plan_text(make_plan(sweep, {cell.uid: "ok" for cell in sweep.cells[::7]}, timings)))
    total = [sum(parts) for parts in zip(loading, estimating, planning, strict=True)]
    recipes = len({id(cell.trial.recipe) for cell in sweep.cells})
    print(f"{name}: {len(sweep.cells):,} cells, {recipes:,} recipes; {len(text.splitlines())} lines of plan")
    for stage, (wall, processor) in {
        "read and expand": loading, "estimate": estimating, "plan": planning, "together": total
    }.items():  # fmt: skip
        print(f"  {stage:16} {wall:6.2f} s ({processor:.2f} s of processor time)")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  largest memory of the process so far: {memory:,.0f} MB", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", metavar="FILE.yaml", help="sweeps (two of 100,000 cells, made here)")
    paths = parser.parse_args(arguments).paths
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    for path in paths:
        measure(path, Path(path))
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {"many settings": SETTINGS, "many recipes": NUMERICS}.items() if not paths else ():
            path = Path(folder) / f"{name.replace(' ', '-')}.yaml"
            path.write_text(text, encoding="utf-8")
            measure(name, path)
            gc.collect()


if __name__ == "__main__":
    main()
