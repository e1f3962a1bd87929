"""Evaluation in the trained precision and in BF16 arithmetic: both are recorded, and neither touches the training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dse.nn.quantize import quantize_
from dse.numerics.recipe import Exempt, Recipe, override
from dse.pack.step import TrainStep
from dse.recipes import RECIPES
from dse.recipes.bf16 import BF16
from dse.results import parquet
from dse.results.record import DIVERGED, OK, STOPPED, Record
from dse.results.store import Store
from dse.tasks import TASKS
from dse.tasks.base import Task
from dse.tasks.lm import SIZES
from dse.train.halving import HalvingRule
from dse.train.loop import TrainContext, run_pack, run_trial
from dse.train.options import RunOptions
from dse.trial import Trial
from tests.records import OF_THE_MACHINE

ATTENDING = override(override(RECIPES["nvfp4"], "attention", "same"), "exempt.first", 2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=["regression", "lm", "image"])
def task(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Task[Any]:
    small = replace(SIZES["tiny"], depth=2, width=32, heads=2, hidden=48, context=16, held_out=512)
    monkeypatch.setitem(SIZES, "tiny", small)
    return TASKS[request.param]()


def trials(task: Task[Any], *recipes: Recipe) -> list[Trial]:
    training = replace(task.training(), steps=3, batch=8)
    return [Trial(task, training, recipe, i % 2) for i, recipe in enumerate(recipes)]


def test_it_is_the_trained_model_under_the_bf16_recipe(task: Task[Any]) -> None:
    """The oracle: a plain model with a member's weights, turned by ``quantize_``, and the task's own evaluation."""
    data = task.load()
    own = trials(task, RECIPES["mxfp4"], RECIPES["tetrajet_q_ema"], RECIPES["fp32"], ATTENDING, RECIPES["ue5m3"])
    program = TrainStep(own, data, "cpu", False)
    for _ in range(3):
        program.step()
    before = program.evaluate()
    with program.pack.as_baseline():
        found = program.evaluate()
    assert program.evaluate() == before  # in the trained precision again
    assert found != before
    for member in range(len(own)):
        model = task.model(data)
        model.load_state_dict({name: view[member] for name, view in program.pack.views.items()}, strict=False)
        for name, buffer in model.named_buffers():
            dim = program.pack._buffer_dims[name]
            buffer.copy_(program.pack.buffers[name] if dim is None else program.pack.buffers[name][member])
        quantize_(model, BF16, exempt=task.exempt()).eval()
        own_metrics = {name: values[member] for name, values in found.items()}
        assert own_metrics == pytest.approx(task.evaluate(model, data), rel=1e-6)  # sums outside of vmap
        assert own_metrics != pytest.approx({name: values[member] for name, values in before.items()}, rel=1e-6)


def test_a_record_has_both_alone_and_in_a_pack(task: Task[Any]) -> None:
    own = trials(task, RECIPES["mxfp4"], RECIPES["bf16"], ATTENDING, replace(RECIPES["bf16"], exempt=Exempt(first=1)))
    for trial, record in zip(own, run_pack(own), strict=True):
        assert record.status == OK
        assert record.metrics_bf16.keys() == record.metrics.keys()
        assert (record.metrics_bf16 == record.metrics) == (trial.recipe == RECIPES["bf16"])
        alone = run_trial(trial)
        assert alone.metrics == record.metrics
        assert alone.metrics_bf16 == record.metrics_bf16
        assert Record.parse(record.line()).metrics_bf16 == record.metrics_bf16


def test_it_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    own = trials(TASKS["regression"](), RECIPES["mxfp4"], RECIPES["ue5m3"], RECIPES["bf16"])
    found = run_pack(own)
    monkeypatch.setattr("dse.train.pack_run.add_bf16_metrics", lambda *_: None)
    for with_it, without in zip(found, run_pack(own), strict=True):
        assert without.metrics_bf16 == {}
        bare = replace(with_it, metrics_bf16={}, seconds=0.0, started="", pack={})
        assert bare == replace(without, seconds=0.0, started="", pack={})
        assert {k: v for k, v in with_it.pack.items() if k not in OF_THE_MACHINE} == {
            k: v for k, v in without.pack.items() if k not in OF_THE_MACHINE
        }


def test_what_is_trained_in_bf16_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    inner = TrainStep.evaluate
    monkeypatch.setattr(TrainStep, "evaluate", lambda self: counted.append(1) or inner(self))
    (record,) = run_pack(trials(TASKS["regression"](), RECIPES["bf16"]))
    assert len(counted) == 2  # before and after
    assert record.metrics_bf16 == record.metrics != {}
    run_pack(trials(TASKS["regression"](), RECIPES["bf16"], RECIPES["mxfp4"]))
    assert len(counted) == 2 + 3


def test_who_does_not_finish_has_none() -> None:
    calm, other, wild = trials(TASKS["regression"](), *[RECIPES["mxfp4"]] * 3)
    wild = replace(wild, training=replace(wild.training, lr=1e6, clip=0.0, warmup=0.0))
    records = run_pack(
        [calm, wild, replace(other, training=replace(other.training, lr=0.0))],
        TrainContext(RunOptions(halving=HalvingRule(3, (0.5,)))),
    )
    assert [r.status for r in records] == [OK, DIVERGED, STOPPED]
    assert [bool(r.metrics_bf16) for r in records] == [True, False, False]


def test_samples_are_graded_in_both() -> None:
    task = TASKS["diffusion"](generate=64)
    own = [replace(t, training=replace(t.training, steps=2)) for t in trials(task, RECIPES["nvfp4"], RECIPES["bf16"])]
    for trial, record in zip(own, run_pack(own), strict=True):
        distances = record.metrics["frechet"], record.metrics_bf16["frechet"]
        assert (distances[0] == distances[1]) == (trial.recipe == RECIPES["bf16"])
        assert run_trial(trial).metrics_bf16 == record.metrics_bf16


def test_records_from_before(tmp_path: Path, make_record: Callable[..., Record]) -> None:
    """A line and a compacted file without the field are read, and read again after the next compaction."""
    old = json.loads(make_record("u0").line())
    del old["metrics_bf16"]
    assert Record.parse(json.dumps(old)) == make_record("u0")
    store = Store(tmp_path)
    parquet.to_frame([make_record("u0")]).drop("metrics_bf16").write_parquet(store.parquet)
    assert store.records() == [make_record("u0")]
    assert [r.metrics for r in store.records(brief=True)] == [make_record("u0").metrics]
    store.append(make_record("u1", metrics_bf16={"loss": 0.25}))
    store.close()
    store.compact()
    assert {r.uid: r.metrics_bf16 for r in store.records(brief=True)} == {"u0": {}, "u1": {"loss": 0.25}}
