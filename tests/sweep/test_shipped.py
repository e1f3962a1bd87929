"""The sweeps that come with the project mean something, and the learning rates are scanned around the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.sweep import load_sweep

FOLDER = Path(__file__).parents[2] / "sweeps"


@pytest.mark.parametrize(
    "name",
    sorted(str(path.relative_to(FOLDER)) for place in (".", "reference") for path in (FOLDER / place).glob("*.yaml")),
)
def test_every_file_has_cells_and_their_baselines(name: str) -> None:
    sweep = load_sweep(FOLDER / name)
    uids = {cell.uid for cell in sweep.cells}
    assert len(uids) == len(sweep.cells) > 1
    assert {cell.baseline_uid for cell in sweep.cells} <= uids


def test_each_default_was_scanned_and_so_was_twice_it() -> None:
    """A default is half the best rate of a scan. Those that were not run yet are in the middle of theirs."""
    rates: dict[str, list[float]] = {}
    defaults: dict[str, float] = {}
    for cell in load_sweep(FOLDER / "learning-rates.yaml").cells:
        task = str(cell.labels["task"])
        rates.setdefault(task, []).append(cell.trial.training.lr)
        defaults[task] = cell.trial.task.training().lr
    for task, own in rates.items():
        assert len(set(own)) == 7, task
        for rate in (defaults[task], 2 * defaults[task]):
            assert any(one == pytest.approx(rate, rel=0.01) for one in own), (task, rate)
