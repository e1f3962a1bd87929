"""Distillation: the loss and its derivative against NumPy, packs against trials alone, and where it is refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dse.errors import UserError
from dse.nn.quantize import quantize_, set_clock
from dse.pack.distillation import divergence
from dse.pack.grouping import signature
from dse.pack.pack import Pack
from dse.recipes import RECIPES
from dse.sweep import load_sweep
from dse.tasks import TASKS
from dse.tasks.base import single
from dse.train.context import TrainContext
from dse.train.loop import load, run_pack, run_trial
from dse.train.options import RunOptions
from dse.train.pack_run import PackRun
from dse.train.weights import read_weights
from dse.trial import Trial
from tests.records import content

SEED = 2601


def distilled(task: str, recipe: str, seed: int, share: float = 1.0) -> Trial:
    own = TASKS[task]()
    first = replace(own.training(), steps=3, batch=8)
    start = Trial(own, first, RECIPES["bf16"], seed)
    return Trial(own, replace(first, steps=4, lr=1e-3, distillation=share), RECIPES[recipe], seed, start)


def kept(results: Path) -> TrainContext:
    return TrainContext(RunOptions(results=results, gemm_checks=False))


def test_divergence_and_its_derivative_against_numpy() -> None:
    random = np.random.default_rng(SEED)
    t, s = (4 * random.standard_normal((2, 5, 7)) for _ in range(2))

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(-1, keepdims=True))
        return np.asarray(e / e.sum(-1, keepdims=True))

    p, q = softmax(t), softmax(s)
    student = torch.tensor(s, requires_grad=True)
    found = divergence(torch.tensor(t), student)
    assert found.item() == pytest.approx((p * np.log(p / q)).sum(-1).mean(), rel=1e-12)
    found.backward()
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), (q - p) / 10, rtol=1e-10, atol=1e-14)
    step, at = 1e-6, (1, 3, 4)
    nudge = torch.zeros_like(student)
    nudge[at] = step
    up, down = (divergence(torch.tensor(t), student.detach() + sign * nudge) for sign in (1, -1))
    assert float((up - down) / (2 * step)) == pytest.approx(float(student.grad[at]), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("task", ["image", "lm"])
def test_the_first_loss_is_that_of_the_plain_models(task: str, tmp_path: Path) -> None:
    trial, mixed = (distilled(task, "nvfp4", 1, share) for share in (1.0, 0.25))
    assert trial.start is not None
    run_trial(trial.start, TrainContext(RunOptions(results=tmp_path, keep_weights=True, gemm_checks=False)))
    weights = read_weights(tmp_path, trial.start)
    assert weights is not None
    data = load(trial.task, None, "cpu")[0]
    pack = Pack([trial, mixed], data, "cpu", False, {trial.start.uid: weights})
    found = pack.losses(trial.task.batch(data, pack.seeds, pack.step, 8)).tolist()
    model = trial.task.model(data)
    model.load_state_dict(dict(weights), strict=False)
    teacher, student = (copy.deepcopy(model) for _ in range(2))
    quantize_(teacher, RECIPES["bf16"], exempt=trial.task.exempt())
    quantize_(student, trial.recipe, exempt=trial.task.exempt())
    set_clock(student, seed=1, step=0)
    x, y, *_ = single(trial.task, data, 1, 0, 8)
    with torch.no_grad():
        log_p, log_q = (F.log_softmax(m(x).double(), -1).flatten(0, -2) for m in (teacher, student))
    kl = float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
    ce = float(F.nll_loss(log_q, y.flatten()))
    assert kl > 1e-5
    assert found[0] == pytest.approx(kl, rel=1e-2)
    assert found[1] == pytest.approx(0.75 * ce + 0.25 * kl, rel=1e-6)


def test_a_member_equals_its_trial_alone_and_a_teacher_teaches_itself_nothing(tmp_path: Path) -> None:
    trials = [distilled("image", *rest) for rest in (("nvfp4", 0), ("mxfp4", 1, 0.5), ("bf16", 0))]
    together = run_pack(trials, kept(tmp_path))
    assert {record.pack["width"] for record in together} == {3}
    assert [content(r) for r in together] == [content(run_trial(trial, kept(tmp_path))) for trial in trials]
    losses = [loss for _, loss in together[2].curve]
    assert losses[0] == 0, "a BF16 student begins as its teacher"
    assert losses[0] < together[0].curve[0][1] < together[1].curve[0][1], "the last has half of the data's own loss"


def test_a_run_that_goes_on_keeps_its_teacher(tmp_path: Path) -> None:
    trial = distilled("image", "nvfp4", 0)
    assert trial.start is not None
    record = run_trial(trial, kept(tmp_path))
    weights = {trial.start.uid: read_weights(tmp_path, trial.start) or {}}
    data = load(trial.task, None, "cpu")[0]
    half, rest = (PackRun([trial], data, "cpu", weights) for _ in range(2))
    for _ in range(2):
        half.step()
    rest.load_state_dict(half.state_dict())
    while rest.steps_done < rest.steps:
        rest.step()
    assert rest.train_step.log[:, 0].tolist() == [loss for _, loss in record.curve]


def test_it_is_part_of_the_identity_and_of_what_trains_together() -> None:
    trial = distilled("image", "nvfp4", 0)
    plain = replace(trial, training=replace(trial.training, distillation=0.0))
    assert "distillation" not in plain.spec["training"]
    assert trial.spec["training"]["distillation"] == 1.0
    assert len({trial.uid, plain.uid, distilled("image", "nvfp4", 0, 0.5).uid}) == 3
    assert signature(trial) == signature(distilled("image", "mxfp4", 3, 0.5)) != signature(plain)
    assert Trial.from_spec(trial.spec).uid == trial.uid


def test_it_is_refused_where_it_has_no_meaning(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="image needs a `start`, whose trained model is the teacher"):
        replace(distilled("image", "nvfp4", 0), start=None)
    with pytest.raises(UserError, match=r"the model of regression predicts no classes; those of .*lm"):
        distilled("regression", "nvfp4", 0)
    with pytest.raises(UserError, match="distillation"):
        distilled("image", "nvfp4", 0, share=1.5)
    file = tmp_path / "distilled.yaml"
    tasks = "  - image: {start: bf16}\n  - image\n  - regression: {start: bf16}\n"
    file.write_text(f"recipes: [nvfp4]\nseeds: 1\ngrid: {{training.distillation: [0, 1]}}\ntasks:\n{tasks}")
    sweep = load_sweep(file)
    assert [cell.trial.training.distillation for cell in sweep.cells].count(1.0) == 2  # and its bf16 baseline
    reasons = {excluded.reason for excluded in sweep.excluded}
    assert len(reasons) == 2
    assert all("training.distillation" in reason for reason in reasons)
