"""What the tests of searches share besides fixtures."""

from __future__ import annotations

from typing import Any

from dse.results.identity import identity
from dse.results.store import Store
from dse.run.search import journal
from dse.sweep import Assignment, Sweep

SEARCH = """
name: hunt
tasks:
  - regression: {training: {steps: 4, batch: 16}}
recipes: [mxfp4, nvfp4]
baseline: {recipe: bf16, training.lr: 3e-3}
seeds: 2
search: {method: tpe, trials: 12, batch: 3, startup: 6, seed: 3}
grid:
  G.rounding: [nearest_even, stochastic]
  training.lr: {log: [1e-4, 1e-2]}
when:
  - {if: {G.rounding: stochastic}, grid: {G.rounding.bits: {int: [2, 8]}}}
"""
QUIET: dict[str, Any] = {"track": False, "progress": False}


def asked(store: Store, sweep: Sweep) -> list[Assignment]:
    assert sweep.space
    return [
        a for found in journal.asked(store.folder, identity(sweep, store.folder), sweep.space).values() for a in found
    ]
