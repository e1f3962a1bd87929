"""Probes leave no trace in a training, and see in a pack what they see alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dse.errors import UserError
from dse.numerics.recipe import POINTS
from dse.pack.step import TrainStep
from dse.probes import Probes
from dse.recipes import RECIPES
from dse.results.record import OK, Record
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.sweep import load_sweep
from dse.tasks import TASKS
from dse.train.halving import HalvingRule
from dse.train.loop import TrainContext, run_pack
from dse.train.options import RunOptions
from dse.trial import Trial
from tests.records import trained

REGRESSION = TASKS["regression"]()
SHORT = replace(REGRESSION.training(), steps=5, batch=16, eval_every=2)
MIXED = ("nvfp4", "bf16", "tetrajet_q_ema", "ue5m3", "quartet", "four_over_six", "fp4_all_the_way", "fp32")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def trials(recipes: tuple[str, ...]) -> list[Trial]:
    return [Trial(REGRESSION, SHORT, RECIPES[name], seed=i % 3) for i, name in enumerate(recipes)]


@pytest.mark.slow
def test_training_is_bit_identical_with_probes() -> None:
    """Every recipe: held tensor scales, weight rules and schedules that watch among them."""
    together = [replace(one, training=replace(SHORT, steps=3)) for one in trials(tuple(RECIPES))]
    context = TrainContext(RunOptions(probes=Probes(every=1)))
    for a, b in zip(run_pack(together), run_pack(together, context), strict=True):
        assert trained(a) == trained(b, probes=[]), a.recipe
        assert not a.probes
        assert bool(b.probes) == (b.recipe != "fp32")


def test_nothing_that_a_step_changes_is_touched() -> None:
    from dse.probes.prober import Prober

    data = REGRESSION.load(None)
    program = TrainStep(trials(MIXED), data, "cpu", False)
    for step in range(2):
        before = {name: tensor.clone() for name, tensor in program.tensors().items()}
        Prober(Probes(every=1))(program, step)
        for name, tensor in program.tensors().items():
            assert torch.equal(tensor.nan_to_num(), before[name].nan_to_num()), name
        assert all(layer.tap is None for layer in program.pack.layers.values())
        program.step()


def test_a_pack_sees_what_its_members_see_alone() -> None:
    many = trials(MIXED)
    together = run_pack(many, TrainContext(RunOptions(probes=Probes(every=2))))
    for trial, record in zip(many, together, strict=True):
        assert trained(run_pack([trial], TrainContext(RunOptions(probes=Probes(every=2))))[0]) == trained(record), (
            record.recipe
        )


def test_rows() -> None:
    record = run_pack(trials(("mxfp4",)), TrainContext(RunOptions(probes=Probes(every=2, layers="*.1"))))[0]
    rows = record.probes
    assert Record.parse(record.line()).probes == rows
    assert [row[:3] for row in rows] == [[s, "layers.1", p] for s in (0, 2, 4) for p in (*POINTS, "dgrad", "wgrad")]
    changed = [row[3].get("changed") for row in rows if row[2] == "fprop.rhs"]
    assert changed[0] is None
    assert all(0 < share < 1 for share in changed[1:])


def test_weights_that_do_not_move_do_not_change() -> None:
    still = Trial(REGRESSION, replace(SHORT, lr=0.0, weight_decay=0.0), RECIPES["mxfp4"], 0)
    rows = run_pack([still], TrainContext(RunOptions(probes=Probes(every=1))))[0].probes
    assert {row[3]["changed"] for row in rows if row[0] > 0 and row[2] == "fprop.rhs"} == {0.0}


def test_survivors_keep_their_rows() -> None:
    rule, many = HalvingRule(2, (0.5,)), trials(("nvfp4", "mxfp4", "bf16"))
    for record, trial in zip(
        run_pack(many, TrainContext(RunOptions(halving=rule, probes=Probes(1)))), many, strict=True
    ):
        steps = {row[0] for row in record.probes}
        if record.status == OK:
            alone = run_pack([trial], TrainContext(RunOptions(probes=Probes(1))))[0]
            assert record.probes == alone.probes
        else:
            assert steps == {0, 1}


def test_the_dead_are_not_looked_at() -> None:
    wild = Trial(REGRESSION, replace(SHORT, lr=1e18, optimizer="sgd"), RECIPES["mxfp4"], 0)
    record = run_pack([wild], TrainContext(RunOptions(probes=Probes(1))))[0]
    assert record.diverged_at is not None
    assert max(row[0] for row in record.probes) <= record.diverged_at


def test_a_sweep_turns_them_on(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    text = "tasks: [regression]\nrecipes: [nvfp4]\nseeds: 1\ntraining: {steps: 4, batch: 8, eval_every: 0}\n"
    file.write_text(text, encoding="utf-8")
    plain = load_sweep(file)
    file.write_text(text + "probes: {every: 3}\n", encoding="utf-8")
    sweep = load_sweep(file)
    assert sweep.probes == Probes(3)
    assert [cell.uid for cell in sweep.cells] == [cell.uid for cell in plain.cells]
    store = Store(tmp_path / "results")
    run_sweep(sweep, store, RunOptions("local", progress=False, track=False))
    records = store.records()
    assert {row[0] for record in records for row in record.probes} == {0, 3}
    assert not any(record.probes for record in store.records(brief=True))


@pytest.mark.parametrize("value", ["{every: 0}", "{evry: 3}", "{every: 2.5}", "{layers: 3}", "[1]"])
def test_a_sweep_that_means_nothing(tmp_path: Path, value: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(f"tasks: [regression]\nrecipes: [nvfp4]\nprobes: {value}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"s\.yaml:3"):
        load_sweep(file)


def test_a_mixed_pack_is_bit_identical_with_probes() -> None:
    many = trials(MIXED)
    for a, b in zip(run_pack(many), run_pack(many, TrainContext(RunOptions(probes=Probes(every=2)))), strict=True):
        assert trained(a) == trained(b, probes=[]), a.recipe
