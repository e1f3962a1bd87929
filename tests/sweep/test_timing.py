"""Estimates: per task and recipe, from completed trials of like devices alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from dse.numerics.recipe import override
from dse.plan import estimate
from dse.plan.timing import key_of
from dse.plan.timing_probe import Probe
from dse.recipes import RECIPES
from dse.results.record import Record
from dse.run.tally import Tally
from dse.sweep import Sweep
from dse.tasks import TASKS
from dse.trial import Trial

FILE = """
tasks: [{regression: {training: {steps: 4}}}, {image: {training: {steps: 4}}}]
recipes: [mxfp4, nvfp4]
seeds: 2
grid: {training.lr: [1e-3, 2e-3]}
"""


@dataclass
class Past:
    """An earlier trial."""

    trial: dict[str, Any]
    seconds: float
    status: str = "ok"
    device: str = "cpu (x86_64)"
    started: str = "2026-01-01"


@pytest.fixture
def cells(sweep: Callable[[str], Sweep]) -> Any:
    return sweep(FILE).cells


def _of(cells: Any, task: str, recipe: str) -> list[Any]:
    return [cell for cell in cells if cell.labels["task"] == task and cell.trial.recipe.name == recipe]


def test_only_completed_trials_of_one_kind_of_device_count(cells: Any) -> None:
    quick, other, base = (_of(cells, "regression", name) for name in ("mxfp4", "nvfp4", "bf16"))
    images = _of(cells, "image", "mxfp4")
    past = [
        Past(quick[0].trial.spec, 2.0),
        Past(quick[0].trial.spec, 500.0, "failed"),
        Past(quick[0].trial.spec, 0.001, "diverged"),
        Past(quick[0].trial.spec, 0.5, "stopped"),
        Past(quick[0].trial.spec, 0.01, device="NVIDIA H100", started="2025"),
        Past(base[0].trial.spec, 1.0),
        Past(images[0].trial.spec, 60.0),
    ]
    found = estimate(cells, past)
    assert {(found[c.uid].seconds, found[c.uid].source) for c in quick} == {(2.0, "measured")}, "at any learning rate"
    assert {(found[c.uid].seconds, found[c.uid].source) for c in other} == {(2.0, "similar")}, "not the baseline's"
    assert {found[c.uid].seconds for c in base} == {1.0}
    assert {found[c.uid].seconds for c in images} == {60.0}
    on_gpu = estimate(cells, past, "gpu")
    assert {found.seconds for found in on_gpu.values()} == {0.01}
    assert not {c.uid for c in images} & on_gpu.keys()


def test_time_left_is_not_an_average_over_tasks(cells: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of what is left, nor by trials that ended early."""

    def record(cell: Any, seconds: float, status: str = "ok", device: str = "cpu (x)") -> Record:
        trial = cell.trial
        return Record(
            cell.uid, "b", status, trial.task.name, "r", "c", 0, trial.spec, 1.0, 1.0, seconds=seconds, device=device
        )

    tally = Tally(cells, [], workers=1, device="cpu")
    regression = [cell for cell in cells if cell.labels["task"] == "regression"]
    images = [cell for cell in cells if cell.labels["task"] == "image"]
    for cell in regression[:-1]:
        tally.add(record(cell, 1.0))
    for image, seconds, status in zip(images, (60.0, 0.1, 0.1), ("ok", "diverged", "failed"), strict=False):
        tally.add(record(image, seconds, status))
    left = 1.0 + 60.0 * (len(images) - 3)
    assert tally.seconds_left() == pytest.approx(left)
    assert tally.basis == f"from {len(regression)} completed trials on a cpu"
    early = Tally(cells, [record(regression[0], 1.0)], workers=1, device="cpu")
    assert early.seconds_left() == pytest.approx(len(regression) - 1), "what a task like none of them takes is unknown"
    assert early.untimed == len(images)
    assert early.basis.endswith(f"; without {len(images)} like none of them, which dse plan times")
    spec = {**images[0].trial.spec, "training": {**images[0].trial.spec["training"], "lr": 0.5}}
    early.learn([replace(record(images[0], 60.0), uid="of another sweep", trial=spec)])
    assert (early.untimed, early.seconds_left()) == (0, pytest.approx(len(regression) - 1 + 60.0 * len(images)))
    elsewhere = Tally(cells, [record(regression[0], 0.001, device="NVIDIA H100")], workers=1, device="cpu")
    assert elsewhere.seconds_left() is None

    ticks = iter((100.0, 160.0))
    monkeypatch.setattr("dse.run.tally.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    pace = Tally([*regression, *images], [], workers=1, device="cpu")
    pace.update(1, 0.0)
    for cell in regression:
        pace.add(record(cell, 1.0))
    pace.update(len(images), 0.5)
    done = len(regression) + 0.5
    assert pace.seconds_left() == pytest.approx(60.0 * (len(images) - 0.5) / done), "what has finished counts too"


def test_trials_after_training_have_times_of_their_own() -> None:
    """Training times say nothing about them, and a probe counts their two evaluations alone."""
    trained = Trial(TASKS["regression"](), TASKS["regression"]().training(), RECIPES["mxfp4"], 0)
    after = replace(trained, recipe=override(RECIPES["mxfp4"], "post", "rtn"))
    assert key_of(trained.spec).workload != key_of(after.spec).workload
    assert Probe(2.0, 3.0).seconds(trained.training, after=True) == 6
