"""The sweeps that come with the project mean something, and the learning rates are scanned around the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.sweep import load_sweep

FOLDER = Path(__file__).parents[2] / "sweeps"


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_every_file_has_cells_and_their_baselines(name: str) -> None:
    sweep = load_sweep(FOLDER / name)
    uids = {cell.uid for cell in sweep.cells}
    assert len(uids) == len(sweep.cells) > 1
    assert {cell.baseline_uid for cell in sweep.cells} <= uids


def test_rates_surround_each_default() -> None:
    rates: dict[str, set[float]] = {}
    for cell in load_sweep(FOLDER / "learning-rates.yaml").cells:
        task = str(cell.labels["task"])
        rates.setdefault(task, set()).add(cell.trial.training.lr)
        default = cell.trial.task.training().lr
        own = rates[task]
        if len(own) == 7:
            assert any(rate == pytest.approx(default, rel=0.01) for rate in own), task
            assert min(own) < default < max(own), task
    assert all(len(own) == 7 for own in rates.values())
