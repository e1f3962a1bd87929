"""Trials with a post-training method: their identity, what they need, their records, sweeps, and what goes wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dse import RECIPES, override
from dse.errors import UserError
from dse.nn.quantize import quantize_
from dse.pack.starts import trained_model
from dse.plan import check_rules
from dse.post.calibration import input_statistics
from dse.post.sensitivity import sensitivities
from dse.results.record import FAILED, OK
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.sweep import load_sweep
from dse.tasks import TASKS
from dse.train import post_run
from dse.train.context import TrainContext
from dse.train.loop import load, run_pack, run_trial
from dse.train.options import RunOptions
from dse.train.weights import missing, read_weights
from dse.trial import Trial
from tests.records import content

TASK = TASKS["regression"]()
TRAINING = replace(TASK.training(), steps=20, batch=64)


def after(recipe: str = "mxfp4", method: Any = "rtn", seed: int = 0) -> Trial:
    return Trial(TASK, TRAINING, override(RECIPES[recipe], "post", method), seed)


def test_identity_and_what_it_needs() -> None:
    trial = after(method={"gptq": {"damping": 0.1}})
    assert trial.needs == (trial.baseline(),)
    assert trial.needs[0] == Trial(TASK, TRAINING, RECIPES["bf16"], 0)
    plain = replace(trial, recipe=RECIPES["mxfp4"])
    assert len({trial.uid, after().uid, plain.uid, trial.baseline().uid}) == 4
    assert "post" not in plain.spec["recipe"]
    again = Trial.from_spec(trial.spec)
    assert (again.uid, again.needs[0].uid) == (trial.uid, trial.needs[0].uid)


def test_records(tmp_path: Path) -> None:
    """Many trials of two trained models, each trained once; direct cast is the trained model under the recipe."""
    context = TrainContext(RunOptions(results=tmp_path))
    trials = [after(method=method, seed=seed) for seed in (0, 1) for method in ("rtn", "gptq", "error_diffusion")]
    assert len(missing(trials, tmp_path)) == 2
    records = run_pack(trials, context)
    assert missing(trials, tmp_path) == []
    assert [record.status for record in records] == [OK] * 6
    assert [content(record) for record in records[3:5]] == [content(run_trial(trial, context)) for trial in trials[3:5]]
    baseline, data = run_trial(trials[0].needs[0], context), load(TASK, None, "cpu")[0]
    trained = trained_model(trials[0], data, read_weights(tmp_path, trials[0].needs[0]))
    model = quantize_(trained, RECIPES["mxfp4"], exempt=TASK.exempt()).eval()
    assert records[0].metric == pytest.approx(TASK.evaluate(model, data)[TASK.metric], rel=1e-6)
    assert records[0].metric != records[1].metric != records[2].metric
    assert records[0].metrics_bf16[TASK.metric] != records[0].metric
    assert records[0].baseline_uid == baseline.uid
    facts = records[1].pack["post"]
    assert facts["bits_per_weight"] == 4.25
    assert facts["weights"] == 2 * 128 * 128
    assert facts["calibration_rows"] == 16 * 64
    assert "calibration_rows" not in records[0].pack["post"]


def test_layers_that_a_recipe_leaves_count_with_their_bits(tmp_path: Path) -> None:
    """Two layers of 128 x 128: one in MXFP4 with 4.25 bits, one left in BF16 with 16, whoever leaves it."""
    ways = [
        ("exempt.first", 1),
        ("layers", [{"first": 1, "recipe": "none"}]),
        ("layers", [{"first": 1, "recipe": RECIPES["bf16"]}]),
    ]
    trials = [replace(after(), recipe=override(after().recipe, *way)) for way in ways]
    facts = [record.pack["post"] for record in run_pack(trials, TrainContext(RunOptions(results=tmp_path)))]
    assert [own["bits_per_weight"] for own in facts] == [(4.25 + 16) / 2] * 3
    assert [own["weights"] for own in facts] == [2 * 128 * 128] * 3
    assert [own["left_weights"] for own in facts] == [128 * 128, 128 * 128, 0]


def test_a_budget_of_all_layers_is_another_trial() -> None:
    """Where a search's recipe leaves layers, they have counted since; others keep their identities."""
    searched = after(method={"autoquantize": {"bits": 8}})
    assert "budget" not in searched.spec
    left = replace(searched, recipe=override(searched.recipe, "exempt.first", 1))
    assert left.spec["budget"] == "of all layers"
    assert Trial.from_spec(left.spec).uid == left.uid
    assert "budget" not in replace(after(), recipe=override(after().recipe, "exempt.first", 1)).spec


def test_budgets_share_the_scores_of_a_trained_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[Any] = []

    def counted(*args: Any, **options: Any) -> Any:
        passes.append(args)
        return sensitivities(*args, **options)

    monkeypatch.setattr(post_run, "sensitivities", counted)
    trials = [after("nvfp4_plain", {"autoquantize": {"bits": bits}}) for bits in (4.7, 11, 16)]
    records = run_pack([*trials, after("nvfp4_plain")], TrainContext(RunOptions(results=tmp_path)))
    assert {record.status for record in records} == {OK}
    assert len(passes) == 1
    facts = [record.pack["post"] for record in records]
    for budget, own in zip((4.7, 11, 16), facts, strict=False):
        assert own["bits_per_weight"] <= budget
        assert sum(own["format_shares"]) == pytest.approx(1, abs=1e-5)
    assert facts[2]["format_shares"] == [0, 1]
    assert "format_shares" not in facts[3]
    assert facts[0]["format_shares"][0] > facts[1]["format_shares"][0] > 0


def test_configurations_of_a_trained_model_share_its_hessians(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all methods, balances and rotations: each layer's X^T X is summed up in one pass over the calibration data."""
    passes: list[int] = []

    def counted(model: Any, layers: Any, run: Any, keep: int) -> Any:
        passes.append(len(layers))
        return input_statistics(model, layers, run, keep)

    monkeypatch.setattr(post_run, "input_statistics", counted)
    methods: list[Any] = [{"gptq": {"damping": damping}} for damping in (0.01, 0.1)]
    methods += ["error_diffusion", {"gptq": {"balance": "smoothquant"}}]
    trials = [after(method=method) for method in methods]
    rotation = {"hadamard": {"size": 32, "signs": "none"}}
    turned = [replace(trial, recipe=override(trial.recipe, "fprop.rotation", rotation)) for trial in trials]
    records = run_pack([*trials, *turned], TrainContext(RunOptions(results=tmp_path)))
    assert {record.status for record in records} == {OK}
    assert len(passes) == 1
    assert len({record.metric for record in records}) > len(records) // 2


def test_eight_bits_leave_the_metric_of_the_trained_model(tmp_path: Path) -> None:
    """The evaluation is the one that the baseline has."""
    context = TrainContext(RunOptions(results=tmp_path))
    trial = after("mxint8")
    record, baseline = run_trial(trial, context), run_trial(trial.needs[0], context)
    assert record.metric == pytest.approx(baseline.metric, rel=1e-2)
    assert record.metrics_bf16[TASK.metric] == pytest.approx(baseline.metric, rel=1e-2)


def test_failures_are_one_line(tmp_path: Path) -> None:
    context = TrainContext(RunOptions(results=tmp_path))
    few = replace(after(method={"gptq": {"batches": 1}}), training=replace(TRAINING, batch=4))
    fine = replace(few, recipe=after().recipe)
    empty = replace(few, recipe=override(after(method="gptq").recipe, "exempt.last", 5))
    enough = replace(few, recipe=after(method={"gptq": {"batches": 64}}).recipe)
    records = run_pack([few, fine, empty, enough], context)
    assert [record.status for record in records] == [FAILED, OK, FAILED, OK]
    assert "too little calibration data" in str(records[0].error)
    assert "nothing of Mlp would be quantized" in str(records[2].error)
    assert not any("\n" in str(record.error) for record in records)
    broken = Trial(TASK, replace(TRAINING, lr=1e30), after().recipe, 0)
    assert "trial that has diverged" in str(run_trial(broken).error)
    with pytest.raises(UserError, match=r"take training.activations: fp32"):
        run_trial(replace(after(), training=replace(TRAINING, activations="bf16")))


def test_impossible_cells_are_named_before_anything_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    text = "{tasks: [regression], recipes: [bf16, mxfp4], seeds: 1, post: [rtn]"
    path.write_text(f"{text}, grid: {{training.activations: [fp32, bf16]}}}}", encoding="utf-8")
    sweep = load_sweep(path)
    assert len(sweep.cells) == 3
    assert "take training.activations: fp32" in sweep.excluded[0].reason
    path.write_text(f"{text}, grid: {{exempt.last: [0, 5]}}}}", encoding="utf-8")
    with pytest.raises(UserError, match=r"sweep.yaml: task regression, mxfp4 .*last=5.*: nothing of Mlp would be"):
        check_rules(load_sweep(path).cells, path)


SWEEP = """
name: after
tasks:
  - regression: {steps: 8, batch: 64}
recipes: [bf16, mxfp4]
seeds: 2
post: [rtn, gptq, {gptq: {scales: shrunk}}]
grid:
  fprop.rotation: [none, {hadamard: {size: 32, signs: none}}]
"""


def test_a_sweep_trains_once_and_resumes(tmp_path: Path) -> None:
    path = tmp_path / "after.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    sweep, store = load_sweep(path), Store(tmp_path / "results")
    assert len(sweep.cells) == 2 * (1 + 6)
    options = RunOptions(executor="local", track=False, progress=False)
    run_sweep(sweep, store, options)
    records = {record.uid: record for record in store.records()}
    assert {cell.uid for cell in sweep.cells} == set(records)
    assert {record.status for record in records.values()} == {OK}
    assert all(records[cell.uid].baseline_uid in records for cell in sweep.cells)
    weights = sorted((tmp_path / "results" / "weights").iterdir())
    assert len(weights) == 2
    assert torch.load(weights[0], weights_only=True)["uid"] in records
    run_sweep(sweep, store, options)
    assert all(record.started == records[record.uid].started for record in store.records())
