"""How many seeds: known sample sizes, a simulation, and the noise that a sweep's records were given."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from dse.commands.power import power as command
from dse.errors import UserError
from dse.report.analysis.power import detectable_gap, power, seed_noise, seeds_needed
from dse.report.analysis.tidy import tabulate
from dse.results.store import Store
from dse.sweep import Cell
from tests.report.studies import INITIAL, diverged, record, sweep_of


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_known_sample_sizes(effect: float, n: int) -> None:
    """G*Power 3.1, 'difference between two dependent means', two-sided, alpha .05, power .8."""
    assert seeds_needed(effect * 3, 3.0) == n
    assert power(effect, 1.0, n) >= 0.8 > power(effect, 1.0, n - 1)


def test_power_against_a_simulation() -> None:
    from scipy.stats import ttest_1samp

    seed = 11
    print("seed", seed)
    draws = np.random.default_rng(seed).normal(0.7, 1.0, (20_000, 8))
    found = (ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    assert power(0.7, 1.0, 8) == pytest.approx(found, abs=4 * math.sqrt(0.25 / 20_000))


def test_ends() -> None:
    assert seeds_needed(1.0, math.nan) is None
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1.0, 0.0) == 2
    assert seeds_needed(1.0, 1e-9) == 2
    assert seeds_needed(1e-9, 1.0) is None
    assert math.isnan(detectable_gap(1.0, 1))
    assert detectable_gap(0.0, 3) == 0
    for n in (2, 3, 10, 500):
        assert power(detectable_gap(2.0, n), 2.0, n) == pytest.approx(0.8, abs=0.005)


TEXT = """
    tasks: [regression]
    recipes: [mxfp4, nvfp4]
    seeds: 5
"""
"""Metric = a number per seed, plus for each recipe a gap per seed."""
PER_SEED = np.array([0.5, 0.7, 0.2, 0.9, 0.4])
GAPS = {"mxfp4": np.array([0.01, 0.03, 0.02, 0.05, 0.04]), "nvfp4": np.array([0.01, 0.01, 0.02, 0.00, 0.01])}


def metric(cell: Cell) -> float:
    gaps = GAPS.get(cell.config, np.zeros(5))
    return float(PER_SEED[cell.trial.seed] + gaps[cell.trial.seed])


def test_noise_of_a_sweep(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    (one,) = seed_noise(tabulate(sweep, [record(cell, metric(cell)) for cell in sweep.cells]))
    paired = math.sqrt(np.mean([np.var(gap, ddof=1) for gap in GAPS.values()]))
    columns = [PER_SEED, *(PER_SEED + gap for gap in GAPS.values())]
    assert (one.seeds, one.configs, one.df) == (5, 2, 8)
    assert one.paired == pytest.approx(paired, rel=1e-9)
    assert one.sd == pytest.approx(math.sqrt(np.mean([np.var(c, ddof=1) for c in columns])), rel=1e-9)
    assert one.baseline == pytest.approx(PER_SEED.mean())
    assert one.improvement == pytest.approx(INITIAL - PER_SEED.mean())
    assert one.seeds_for(0.02) == seeds_needed(0.02, paired)


def test_noise_with_holes(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    records = [
        diverged(cell) if cell.config == "mxfp4" and cell.trial.seed == 3 else record(cell, metric(cell))
        for cell in sweep.cells
        if not (cell.config == "nvfp4" and cell.trial.seed)
    ]
    (one,) = seed_noise(tabulate(sweep, records))
    assert (one.seeds, one.configs, one.df) == (1, 2, 3)
    assert one.paired == pytest.approx(np.std(np.delete(GAPS["mxfp4"], 3), ddof=1))
    assert math.isnan(one.detectable_gap)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    results = tmp_path / "results"
    with pytest.raises(UserError, match="no results"):
        command(tmp_path / "x.yaml", results)
    with pytest.raises(UserError, match="positive"):
        command(tmp_path / "x.yaml", results, [-1.0])
    Store(results).append(*(record(cell, metric(cell)) for cell in sweep.cells))
    command(tmp_path / "x.yaml", results, [0.02, 0.001])
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if "regression" in line).split()
    (one,) = seed_noise(tabulate(sweep, Store(results).records()))
    assert row[-2:] == [str(one.seeds_for(0.02)), str(one.seeds_for(0.001))]
    command(tmp_path / "x.yaml", results)
    heads, row = (line for line in capsys.readouterr().out.splitlines() if line.startswith(("task", "regression")))
    places = {head: row[heads.index(head) :].split()[0] for head in ("0.3%", "1.0%", "10.0%")}
    assert places == {f"{100 * x:.1f}%": str(one.seeds_for(x * one.improvement)) for x in (0.003, 0.01, 0.1)}
