"""Trials that start from trained weights: alone, in packs, from a results folder, and when their start diverges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dse.commands.why import why
from dse.errors import UserError
from dse.pack.pack import Pack
from dse.plan import make_plan, plan_text
from dse.recipes import RECIPES
from dse.results.record import FAILED, OK
from dse.results.store import Store
from dse.run import offline
from dse.run.engine import run_sweep
from dse.sweep import load_sweep
from dse.tasks import TASKS
from dse.train.context import TrainContext
from dse.train.loop import load, run_pack, run_trial
from dse.train.options import RunOptions
from dse.train.weights import missing, read_weights, weights_path
from dse.trial import Trial
from tests.records import content

TASK = TASKS["regression"]()
FIRST = replace(TASK.training(), steps=6, batch=16)
THEN = replace(TASK.training(), steps=4, batch=16, lr=1e-3)


def continued(recipe: str, seed: int, first: float = FIRST.lr) -> Trial:
    start = Trial(TASK, replace(FIRST, lr=first), RECIPES["bf16"], seed)
    return Trial(TASK, THEN, RECIPES[recipe], seed, start)


def kept(results: Path) -> TrainContext:
    return TrainContext(RunOptions(results=results))


def test_it_begins_where_its_start_ended_and_is_another_trial(tmp_path: Path) -> None:
    trial = continued("bf16", 1)
    assert trial.start is not None
    first, record = run_trial(trial.start), run_trial(trial, kept(tmp_path))
    assert record.metric_initial == first.metric
    parameters = read_weights(tmp_path, trial.start)
    assert parameters is not None
    pack = Pack([trial], load(TASK, None, "cpu")[0], "cpu", False, {trial.start.uid: parameters})
    for name, view in pack.views.items():
        assert torch.equal(view[0], parameters[name])
    assert len({trial.uid, replace(trial, start=None).uid, continued("nvfp4", 1, first=0.5).uid}) == 3
    again = Trial.from_spec(trial.spec, "bf16")
    assert (again.spec, again.uid) == (trial.spec, trial.uid)
    assert again.start is not None
    assert again.start.recipe.name == "bf16"
    assert trial.baseline(RECIPES["mxfp8"]).start == trial.start


def test_members_start_from_the_weights_of_their_seeds(tmp_path: Path) -> None:
    trials = [
        continued("nvfp4", 0),
        continued("mxfp4_rht_sr", 1),
        continued("bf16", 0),
        replace(continued("bf16", 1), start=None),
    ]
    alone = [run_trial(trial) for trial in trials]  # each trains its start itself, and keeps it nowhere
    assert [one.uid for one in missing(trials, tmp_path)] == [trials[0].needs[0].uid, trials[1].needs[0].uid]
    together = run_pack(trials, kept(tmp_path))
    assert [content(a) for a in alone] == [content(b) for b in together]
    assert {record.pack["width"] for record in together} == {4}
    assert missing(trials, tmp_path) == []
    path = weights_path(tmp_path, trials[0].needs[0])
    path.write_bytes(path.read_bytes()[:100])
    assert content(run_trial(trials[0], kept(tmp_path))) == content(alone[0])  # damaged: trained again


def test_a_start_that_diverges_fails_its_trials_alone() -> None:
    trials = [continued("nvfp4", 0, first=1e30), continued("nvfp4", 1)]
    broken, fine = run_pack(trials)
    assert (broken.status, fine.status) == (FAILED, OK)
    assert "starts from a trial that has diverged" in str(broken.error)
    assert content(fine) == content(run_trial(trials[1]))


def test_starts_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="cannot start from one of seed 0"):
        replace(continued("bf16", 0), seed=1)
    image = TASKS["image"]()
    with pytest.raises(UserError, match="cannot start from the weights of the task regression"):
        Trial(image, image.training(), RECIPES["bf16"], 0, continued("bf16", 0))
    other, lm = TASKS["lm"](text="tinyshakespeare"), TASKS["lm"]()
    with pytest.raises(UserError, match="take tokens: bytes"):
        Trial(lm, THEN, RECIPES["bf16"], 0, Trial(other, FIRST, RECIPES["bf16"], 0))


SWEEP = """
name: continued
tasks:
  - regression: {steps: 4, batch: 16, start: bf16}
  - regression: {steps: 4, batch: 16, lr: 1e-3, start: {from: bf16, noise: 0.5, steps: 6}}
recipes: [nvfp4]
seeds: 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "continued.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    return path


def test_a_sweep_trains_starts_first_and_once(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep, results = load_sweep(file), tmp_path / "results"
    default, changed = (sweep.cells[place].trial for place in (0, 1))
    assert default.start is not None
    assert changed.start is not None
    assert (default.start.training, changed.start.training.steps) == (TASK.training(), 6)
    assert changed.start.task == TASKS["regression"](noise=0.5)
    assert [cell.trial.uid for cell in sweep.cells] == [Trial.from_spec(c.trial.spec).uid for c in sweep.cells]
    first = missing([cell.trial for cell in sweep.cells], results)
    assert len(first) == 4
    assert "first: 4 trials that others start from" in plan_text(make_plan(sweep, {}, first=first))
    options = RunOptions(executor="local", track=False)
    assert run_sweep(sweep, Store(results), options).ok == 8
    assert "4 trials that others start from to run" in capsys.readouterr().out
    records = {record.uid: record for record in Store(results).records()}
    assert len(records) == 12
    for cell in sweep.cells[:2]:
        assert cell.trial.start is not None
        assert records[cell.uid].metric_initial is not None
        assert content(records[cell.uid]) == content(run_trial(cell.trial))
    why(changed.uid, results)
    assert f"start     regression(noise=0.5) ({changed.start.uid})" in capsys.readouterr().out
    (results / "shards").rename(tmp_path / "lost")
    run_sweep(sweep, Store(results), options)  # the weights are there
    assert "others start from" not in capsys.readouterr().out


def test_a_machine_without_the_sweep_s_libraries_trains_starts_too(file: Path, tmp_path: Path) -> None:
    bundle, out = tmp_path / "bundle.json", tmp_path / "away"
    cells = load_sweep(file).cells
    assert offline.main(["plan", str(file), "--out", str(bundle), "--results", str(tmp_path / "none")]) == 0
    assert offline.main(["run", str(bundle), "--out", str(out)]) == 0
    records = {record.uid: record for record in Store(out).records()}
    assert len(records) == 12
    again = Trial.from_spec(cells[-1].trial.spec, cells[-1].trial.recipe.name)
    assert content(records[cells[-1].uid]) == content(run_trial(again))


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("{from: bf61}", "unknown recipe 'bf61'"),
        ("{texd: 1}", "has no option 'texd'; did you mean"),
        ("{size: small}", "cannot start from weights"),
        ("{training: {steps: 0}}", "steps"),
        ("[bf16]", "expected a recipe"),
    ],
)
def test_a_start_that_cannot_be_is_refused_with_its_line(tmp_path: Path, start: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"recipes: [nvfp4]\ntasks:\n  - lm: {{start: {start}}}\n")
    with pytest.raises(UserError, match=r"wrong.yaml:3: .*" + message):
        load_sweep(path)
