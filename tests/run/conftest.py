"""Records and a small real sweep, for tests of the store, the engine and the projections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dse.results.record import OK, Record
from dse.sweep import Sweep, load_sweep

SWEEP = """
name: tiny
tasks:
  - regression: {training: {steps: 4, batch: 16}}
recipes: [bf16, mxfp4]
seeds: 2
grid:
  '*.block': [16, 32]
"""


@pytest.fixture
def make_record() -> Callable[..., Record]:
    def make(uid: str = "u0", status: str = OK, **fields: Any) -> Record:
        values: dict[str, Any] = {
            "baseline_uid": "b0",
            "task": "regression",
            "recipe": "mxfp4",
            "config": "mxfp4 *.block=16",
            "seed": 0,
            "trial": {"task": "regression", "training": {"steps": 3, "batch": 8, "lr": 0.1}, "recipe": {}},
            "metric": 0.1 + 0.2 if status == OK else None,
            "metric_initial": 1.0,
            "metrics": {"loss": 0.1 + 0.2, "accuracy": None},
            "curve": [[0, 1.5], [1, 1e-300], [2, 5e-324]],
            "evals": [[0, 1.0], [3, 0.1 + 0.2]],
            "seconds": 1.25,
            "started": "2026-01-02T03:04:05+00:00",
            "device": "cpu (x)",
            "host": "here",
            "versions": {"torch": "2"},
        }
        return Record(uid=uid, status=status, **(values | fields))

    return make


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Two baselines and four MXFP4 trials of four steps."""
    path = tmp_path / "tiny.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    return load_sweep(path)
