"""Makes the fixed folder of results that reports are written of: records by a rule, no training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.golden.makers.common import FOLDER

RESULTS = FOLDER / "results"
SHARD = RESULTS / "shards" / "20260102T030405.000000Z-here-1.jsonl"
SWEEPS = ("study", "ladder", "hunt")
_GAP = {"bf16": 0.0, "mxfp8": -0.01, "nvfp4": 0.1, "mxfp4": 0.3}
_LAYERS = ("blocks.0.mlp", "blocks.1.mlp", "head")


def write_results() -> Path:
    """Writes the folder anew; its sweep files stay."""
    from dse.results.store import Store

    for name in ("shards", "searches"):
        shutil.rmtree(RESULTS / name, ignore_errors=True)
    store = Store(RESULTS)
    store.append(*_study(), *_ladder())
    _hunt()
    found = store.records()
    store.close()
    shutil.rmtree(RESULTS / "shards")
    store.append(*found)
    store.close()
    (written,) = (RESULTS / "shards").iterdir()
    written.rename(SHARD)
    (RESULTS / "searches" / ".turn").unlink(missing_ok=True)
    for path in RESULTS.iterdir():
        if path.name not in ("shards", "searches") and path.suffix != ".yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return SHARD


def _study() -> Iterator[Any]:
    """All that a report can show: probes, pictures, a trial that diverged, one that failed, and one that never ran."""
    from dse.sweep import load_sweep
    from tests.report.studies import diverged, failed, record

    cells = load_sweep(RESULTS / "study.yaml").cells
    own = [cell for cell in cells if str(cell.labels["recipe"]).startswith("own")]
    for number, cell in enumerate(cells):
        recipe, seed = str(cell.labels["recipe"]), cell.trial.seed
        gap = _GAP.get(recipe, 0.05) * (0.9 if cell.labels["G.rounding"] == "stochastic" else 1.0)
        metric = 1.0 + 0.01 * seed + gap * (1 + 0.1 * seed) + 0.001 * (number % 7)
        in_bf16: dict[str, float | None] = {cell.trial.task.metric: metric - 0.02 * gap}
        made = replace(record(cell, metric), metrics_bf16=in_bf16, pack=_pack(number))
        if made.task == "regression":
            made = replace(made, probes=list(_looks(gap)))
        if made.task == "diffusion":
            made = replace(made, metrics=made.metrics | _losses(gap), samples=_samples(gap, seed, recipe == "bf16"))
        if cell is own[0]:
            made = diverged(cell, 4, "gradient of <w> & co")
        if cell is own[1]:
            made = failed(cell, "Traceback (most recent call last):\n  ...\nValueError: </pre><b>no</b>")
        if cell is not own[2]:
            yield made


def _pack(number: int) -> dict[str, Any]:
    facts = {"width": 8, "kernels": False, "graph": False, "position": number % 8}
    return facts | {"processor": {"maker": "here", "model": "fixed", "bits": "0" * 8}}


def _looks(gap: float) -> Iterator[list[Any]]:
    """Rows of probes: errors in proportion to the gap, one layer four times as wrong."""
    size = 0.01 + abs(gap) / 2
    for step in (0, 4, 8):
        for layer in _LAYERS:
            far = 4 if layer == "blocks.1.mlp" else 1
            seen = {"error": size, "flushed": 0.01 * step * far, "saturated": 0.0, "scales": {"-20": 3, "-19": 5}}
            yield from ([step, layer, point, seen] for point in ("fprop.lhs", "wgrad.lhs"))
            yield [step, layer, "wgrad", {"cosine": 1 - size, "error": size * far, "bias": 0.0, "shrink": -gap / 2}]


def _losses(gap: float) -> dict[str, float | None]:
    return {"loss_low": 2.0 * (1 + gap), "loss_high": 4.0 * (1 + gap), "frechet": 5.0 + 100 * gap}


def _samples(gap: float, seed: int, baseline: bool) -> dict[str, Any]:
    import numpy as np

    from dse.tasks.pictures import Pictures

    def gray(level: float) -> dict[str, Any]:
        return Pictures(np.full((4, 8, 8), round(level), np.uint8), 0.01).plain()

    return {"made": gray(100 + 50 * seed + 100 * gap)} | ({"real": gray(7)} if baseline else {})


def _ladder() -> Iterator[Any]:
    """Half of the configurations stopped at the first rung, a quarter at the second."""
    from dse.sweep import load_sweep
    from tests.report.studies import INITIAL, record

    for cell in load_sweep(RESULTS / "ladder.yaml").cells:
        recipe, rounding = str(cell.labels["recipe"]), cell.labels["G.rounding"]
        end = 1.0 + _GAP.get(recipe, 0.0) + 0.01 * cell.trial.seed
        evals: list[list[float | None]] = [[0, INITIAL], [2, end + 0.8], [5, end + 0.5], [10, end]]
        stop = {("mxfp4", "nearest_even"): (1, 2), ("mxfp4", "stochastic"): (2, 5)}.get((recipe, str(rounding)))
        made = replace(record(cell, end), evals=evals)
        if stop:
            halted = {"rung": stop[0], "step": stop[1], "metric": evals[stop[0]][1]}
            made = replace(made, status="stopped", metric=None, metrics={}, evals=evals[: stop[0] + 1], stopped=halted)
        yield made


def _hunt() -> None:
    """Runs the search with a rule in the place of training, so that its journal is a real one."""
    import dse.train.loop
    import dse.train.width
    from dse.results.store import Store
    from dse.run.engine import run_sweep
    from dse.sweep import load_sweep
    from dse.train.options import RunOptions
    from tests.run.oracle import fake_pack

    with (
        patch.object(dse.train.loop, "run_pack", fake_pack),
        patch.object(dse.train.width, "measured_width", lambda trials, *_: len(trials)),
    ):
        sweep = load_sweep(RESULTS / "hunt.yaml")
        run_sweep(sweep, Store(RESULTS), RunOptions("local", track=False, progress=False, compact=False))
