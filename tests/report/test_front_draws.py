"""Probabilities of being on the front against counting, hypervolume and knee by hand, and cheaper proxies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.report.analysis.configs import ALL, aggregate_seeds, pareto_front
from dse.report.analysis.front_draws import front_draws, front_members, hypervolumes
from dse.report.analysis.proxies import size_proxies, step_proxies
from dse.report.analysis.tidy import tabulate
from dse.results.record import Record
from dse.sweep import Cell
from tests.report.studies import INITIAL, record, records_of, sweep_of

TEXT = "tasks: [lm]\nrecipes: [mxfp4, nvfp4, nvfp4_plain, quartet]\nseeds: 4\n"
GAP = {"bf16": 0.0, "mxfp4": 0.3, "nvfp4_plain": 0.1, "nvfp4": 0.1, "quartet": 0.0999}


def test_members_and_areas_of_many_draws() -> None:
    seed = 5
    print("seed", seed)
    random = np.random.default_rng(seed)
    cost = np.sort(random.integers(0, 5, 12)).astype(float)
    lost = random.integers(0, 6, (200, 12)).astype(float)  # ties in both
    expected = [pareto_front(list(cost), list(draw)) for draw in lost]
    assert front_members(cost, lost).tolist() == expected
    (area,) = hypervolumes(np.array([1.0, 2.0, 4.0]), np.array([[0.3, 0.4, 0.1]]), (5.0, 0.5))
    assert area == pytest.approx(100 * (0.2 * 3 + 0.4 * 1))


def noisy(at: Mapping[str, Any]) -> float:
    return 1.0 + GAP[at["recipe"]] + (0.01 * at["seed"] if at["recipe"] != "bf16" else 0.0)


def test_noise_that_configurations_share_leaves_the_front_sure(tmp_path: Path) -> None:
    """Each seed moves all gaps alike, so their order never changes, however wide their intervals are."""
    sweep = sweep_of(tmp_path, TEXT)
    table = tabulate(sweep, records_of(sweep, noisy))
    configs = aggregate_seeds(table)
    found = front_draws(table, configs)
    assert found is not None
    front = set(configs[(configs["task"] == ALL) & configs["front"]]["config"])
    assert {name for name, p in found.probability.items() if p == 1.0} == front
    assert {name for name, p in found.probability.items() if p == 0.0} == set(found.probability) - front
    assert found.low < found.hypervolume < found.high


def test_one_seed_leaves_probabilities_unknown(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT.replace("seeds: 4", "seeds: 1"))
    table = tabulate(sweep, records_of(sweep, noisy))
    found = front_draws(table, aggregate_seeds(table))
    assert found is not None
    assert all(math.isnan(p) for p in found.probability.values())
    assert found.hypervolume > 0


def _crossing(cell: Cell, turn: int) -> Record:
    """Before step ``turn`` the order of the configurations is reversed."""
    gap = GAP[str(cell.labels["recipe"])] + 0.001 * cell.trial.seed * (not cell.is_baseline)
    made = record(cell, 1.0 + gap)
    evals: list[list[float | None]] = [[0, INITIAL]]
    evals += [[step, 1.5 + (gap if step >= turn or cell.is_baseline else 0.4 - gap)] for step in (2, 4, 6, 8)]
    return replace(made, evals=[*evals, [10, 1.0 + gap]])


def test_the_step_from_which_the_order_is_the_final_one(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    (found,) = step_proxies(tabulate(sweep, [_crossing(cell, 6) for cell in sweep.cells]))
    assert (found.kind, found.last, found.enough) == ("held-out metric", 10, 6)
    assert [one.reversed > 0 for one in found.steps] == [True, True, False, False, False]
    assert found.steps[-1].tau == pytest.approx(1.0)
    (late,) = step_proxies(tabulate(sweep, [_crossing(cell, 10) for cell in sweep.cells]))
    assert late.enough == 10


def test_a_smaller_variant_of_a_task(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT.replace("[lm]", "[lm, {lm: {size: small}}]"))
    made = []
    for cell in sweep.cells:
        slow = "small" in str(cell.labels["task"])
        gap = GAP[str(cell.labels["recipe"])] + 0.001 * cell.trial.seed * (not cell.is_baseline)
        made.append(replace(record(cell, 1.0 + gap), seconds=20.0 if slow else 1.0))
    (found,) = size_proxies(tabulate(sweep, made))
    assert (found.task, found.reference, found.reversed, found.enough) == ("lm", "lm(size=small)", 0, True)
    assert found.decided > 0
