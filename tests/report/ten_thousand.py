"""A study of ten thousand trials: the cells of a sweep of many options, with the records of real trials behind them.

Each record is that of a shipped trial of the same task and seed under the recipe that the cell's is made from, its
losses moved by what the cell's options are drawn to cost, so that curves, metrics and texts have their real sizes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dse.results.record import OK, Record
from dse.results.store import Store
from dse.sweep import Cell, Sweep
from tests.report.studies import diverged, sweep_of

SHIPPED = Path(__file__).parents[2] / "results" / "reference"
SEED = 20261130
TEXT = """
    name: ten-thousand
    tasks:
      - lm: {text: tinyshakespeare}
      - lm: {text: tinyshakespeare, size: 0.5M}
      - addition: {size: small}
      - lm: {text: tinyshakespeare, tokens: bytes, size: small, steps: 200, lr: 2e-4, start: {text: stdlib}}
    recipes:
      - mxfp4
      - mxfp4_up: {base: mxfp4, '*.scale_rounding': up}
      - bare: {base: nvfp4, G.rounding: nearest_even, wgrad.rotation: none}
      - ue5m3
      - bare_4over6: {base: nvfp4, G.rounding: nearest_even, wgrad.rotation: none, X.choice: four_over_six}
      - bare_rows: {base: nvfp4, G.rounding: nearest_even, wgrad.rotation: none, W.tile: 1}
    seeds: 6
    grid:
      dgrad.lhs.rounding: [nearest_even, stochastic]
      wgrad.lhs.rounding: [nearest_even, stochastic]
      dgrad.rotation: [none, {hadamard: {size: 32, signs: fixed}}, {hadamard: {size: 32}}]
      wgrad.rotation: [none, {hadamard: {size: 32, signs: fixed}}, {hadamard: {size: 32}}]
      '*.block': [16, 32]
"""
_BASES = {"bf16": "bf16", "mxfp4": "mxfp4", "mxfp4_up": "mxfp4", "ue5m3": "ue5m3"}
"""Recipe of a cell -> the shipped one that its records are of; the others are NVFP4's."""
_SPREAD = 0.04
"""Of an option's effect, as a share of the improvement."""


def ten_thousand(folder: Path) -> tuple[Sweep, list[Record]]:
    """The sweep and a record of each of its trials; about one in fifty has diverged."""
    sweep = sweep_of(folder, TEXT)
    shipped = {(r.task, r.config, r.seed, len(r.curve), r.metric_initial): r for r in Store(SHIPPED).records()}
    by_task: dict[Any, dict[tuple[str, int], Record]] = {}
    for record in shipped.values():
        spec = record.trial
        by_task.setdefault(_training(spec), {})[record.config, record.seed] = record
    random = np.random.default_rng(SEED)

    @cache
    def cost(axis: str, value: str) -> float:
        return float(random.normal(0, _SPREAD))

    return sweep, [_moved(cell, by_task[_training(cell.trial.spec)], cost, random) for cell in sweep.cells]


def _training(spec: dict[str, Any]) -> str:
    return repr([spec["task"], spec["training"], spec.get("start")])


def _moved(cell: Cell, known: dict[tuple[str, int], Record], cost: Any, random: np.random.Generator) -> Record:
    own = known[_BASES.get(str(cell.labels["recipe"]), "nvfp4"), cell.trial.seed]
    record = replace(own, uid=cell.uid, baseline_uid=cell.trial.baseline().uid, recipe=str(cell.labels["recipe"]))
    record = replace(record, config=cell.config, trial=cell.trial.spec)
    if cell.is_baseline or own.status != OK:
        return record
    if random.random() < 0.02:
        return diverged(cell)
    assert own.metric is not None
    assert own.metric_initial is not None
    share = sum(cost(axis, repr(value)) for axis, value in cell.labels.items() if axis not in ("task", "seed"))
    by = (share + random.normal(0, 0.01)) * (own.metric_initial - own.metric)
    curve = [[step, None if loss is None else loss + by] for step, loss in own.curve]
    evals = [[step, None if loss is None else loss + by] for step, loss in own.evals]
    metrics = {name: None if value is None else value + by for name, value in own.metrics.items()}
    return replace(record, metric=own.metric + by, curve=curve, evals=evals, metrics=metrics)


__all__ = ["SEED", "ten_thousand"]
