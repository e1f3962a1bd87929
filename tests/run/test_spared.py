"""A training is not lost by what comes after it or beside it: evaluation, samples, probes, checkpoints; nor a half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dse.alarms.checker import GemmChecker
from dse.commands.why import why
from dse.pack.pack import Pack
from dse.pack.step import TrainStep
from dse.probes import Probes
from dse.probes.prober import Prober
from dse.results.record import FAILED, OK, STOPPED, Record
from dse.results.store import Store
from dse.run.executors.attempts import Attempt
from dse.run.executors.worker import TimedOut, Worker
from dse.run.queue.pack_queue import PackQueue
from dse.sweep import Sweep
from dse.tasks import TASKS
from dse.train import loop
from dse.train.context import SPLIT
from dse.train.evaluation import HALVED
from dse.train.halving import HalvingRule, RungTarget
from dse.train.hooks import EvaluationHook, Hook, ObserverHook, ProgressHook, RungHook
from dse.train.loop import TrainContext, run_pack
from dse.train.options import RunOptions
from dse.train.pack_run import PackRun
from dse.train.resume import CheckpointHook
from dse.trial import Trial


@pytest.fixture
def trials(sweep: Sweep) -> list[Trial]:
    return [replace(c.trial, training=replace(c.trial.training, eval_every=2)) for c in sweep.cells]


def _told(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    return [(r.uid, r.status, r.metric, r.metrics, r.metrics_bf16, r.evals, r.curve) for r in records]


def test_a_pack_too_wide_to_be_evaluated_is_evaluated_in_halves(
    trials: list[Trial], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    calm, real = run_pack(trials), TrainStep.evaluate

    def narrow(self: TrainStep) -> dict[str, list[float]]:
        if len(self.pack.trials) > 2:
            raise RuntimeError("CUDA error: invalid argument")
        return real(self)

    monkeypatch.setattr(TrainStep, "evaluate", narrow)
    found = run_pack(trials)
    assert _told(found) == _told(calm)
    assert not any(SPLIT in record.pack for record in found), "the training was not split"
    line = f"a pack of {len(trials)} trials was evaluated in halves: RuntimeError: CUDA error: invalid argument"
    assert {record.pack[HALVED] for record in found} == {line}
    assert capfd.readouterr().err.splitlines().count(line) == 1
    store = Store(tmp_path)
    store.append(*found)
    why(found[0].uid, tmp_path)
    assert f"{HALVED}={line}" in capfd.readouterr().out


def test_a_trial_that_cannot_be_evaluated_keeps_its_training(
    trials: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, real, poison = run_pack(trials), TrainStep.evaluate, trials[3]

    def fails(self: TrainStep) -> dict[str, list[float]]:
        if int(self.pack.step) == 4 and poison in self.pack.trials:
            raise RuntimeError("no such kernel")
        return real(self)

    monkeypatch.setattr(TrainStep, "evaluate", fails)
    found = run_pack(trials)
    assert _told([*found[:3], *found[4:]]) == _told([*calm[:3], *calm[4:]])
    lost = found[3]
    assert (lost.status, lost.metric, lost.metric_initial) == (FAILED, None, calm[3].metric_initial)
    assert (lost.curve, lost.evals) == (calm[3].curve, calm[3].evals[:-1])
    assert lost.error is not None
    assert lost.error.endswith("RuntimeError: no such kernel\n")
    assert "in fails" in lost.error, "where it happened"


def test_an_evaluation_on_the_way_may_fail(trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    calm, real = run_pack(trials), TrainStep.evaluate

    def fails(self: TrainStep) -> dict[str, list[float]]:
        if int(self.pack.step) == 2:
            raise MemoryError
        return real(self)

    monkeypatch.setattr(TrainStep, "evaluate", fails)
    for a, b in zip(run_pack(trials), calm, strict=True):
        assert (a.status, a.metric, a.metrics, a.curve) == (OK, b.metric, b.metrics, b.curve)
        assert a.evals == [b.evals[0], b.evals[-1]]
        assert a.pack["evals_missing_because"] == "step 2: MemoryError"


@pytest.mark.parametrize("where", ["made", "graded", "bf16"])
def test_samples_and_inference_in_bf16_may_fail(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS["diffusion"]()
    training = replace(task.training(), steps=2, batch=4)
    from dse.recipes import RECIPES

    some = [Trial(task, training, RECIPES[name], 0) for name in ("bf16", "mxfp4")]

    def fails(*_: object) -> Any:
        raise RuntimeError("out of luck")

    place, name = {"made": (Pack, "samples"), "graded": (type(task), "grade"), "bf16": (Pack, "as_baseline")}[where]
    monkeypatch.setattr(place, name, fails)
    for record in run_pack(some):
        assert record.status == OK
        assert record.metric is not None
        assert bool(record.samples) is (where == "bf16")
        kind = "metrics_bf16" if where == "bf16" else "samples"
        own = record.recipe == "bf16"
        if where != "bf16" or not own:
            assert record.pack[f"{kind}_missing_because"] == "RuntimeError: out of luck"


def test_probes_and_checkpoints_may_fail(trials: list[Trial], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dse.train.checkpoint import Checkpoints

    calm = run_pack(trials)

    def fails(*_: object) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(Prober, "_probe", fails)
    monkeypatch.setattr(PackRun, "state_dict", fails)
    setup = TrainContext(RunOptions(probes=Probes(every=1)), checkpoints=Checkpoints(tmp_path, every=0.0))
    for a, b in zip(run_pack(trials, setup), calm, strict=True):
        assert (a.status, a.metric, a.curve) == (OK, b.metric, b.curve)
        assert a.pack["probes_missing_because"] == "step 3: MemoryError: no room"
        assert a.pack["no_checkpoint_because"] == "MemoryError: no room"


MOMENTS = {
    ProgressHook: {"before_step": 3},
    ObserverHook: {"before_step": 3},
    EvaluationHook: {"after_step": 4},
    RungHook: {"after_step": 4},
    CheckpointHook: {"after_step": 4, "at_end": 4},
}
"""Kind of hook -> its moments, and the steps done at the last call of each."""


@pytest.mark.parametrize(("kind", "moment"), [(kind, moment) for kind, own in MOMENTS.items() for moment in own])
def test_a_failing_hook_costs_no_training(
    trials: list[Trial], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[Hook], moment: str
) -> None:
    from dse.train.checkpoint import Checkpoints

    calm, calls = run_pack(trials), list[int]()

    def fails(self: Hook, run: PackRun) -> None:
        calls.append(run.steps_done)
        raise MemoryError("no room")

    monkeypatch.setattr(kind, moment, fails)
    options = RunOptions(probes=Probes(every=1), halving=HalvingRule(2, (0.5,)))
    setup = TrainContext(options, on_step=lambda *_: None, checkpoints=Checkpoints(tmp_path, every=0.0))
    records = run_pack(trials, setup)
    assert calls[-1] == MOMENTS[kind][moment]
    survivors = [(a, b) for a, b in zip(records, calm, strict=True) if a.status != STOPPED]
    assert len(survivors) == (6 if kind is RungHook else 4)
    for a, b in survivors:
        assert (a.status, a.metric, a.metrics, a.curve) == (OK, b.metric, b.metrics, b.curve)
        assert a.pack[getattr(kind, "missing", GemmChecker.missing)] == f"step {calls[-1]}: MemoryError: no room"
        assert SPLIT not in a.pack


@pytest.mark.parametrize("group", [0, 6])
def test_an_evaluation_at_a_rung_that_fails_for_one_trial_costs_the_others_nothing(
    trials: list[Trial], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, group: int
) -> None:
    """Whether the pack pauses at the rung or ranks its members itself; tried again, the trial is evaluated there."""
    from dse.train.checkpoint import Checkpoints

    real, poison = TrainStep.evaluate, trials[3]
    options = RunOptions(halving=HalvingRule(2, (0.5,), frozenset(trial.uid for trial in trials)))
    setup = TrainContext(options, target=RungTarget(1, group), checkpoints=Checkpoints(tmp_path, every=60.0))
    calm = run_pack(trials, replace(setup, checkpoints=None))

    def fails(self: TrainStep) -> dict[str, list[float]]:
        if int(self.pack.step) == 2 and poison in self.pack.trials:
            raise RuntimeError("no such kernel")
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "evaluate", fails)
        found = run_pack(trials, setup)
    assert {record.status for record in calm} == {OK if group else STOPPED}
    assert _told([*found[:3], *found[4:]]) == _told([*calm[:3], *calm[4:]])
    assert not any(SPLIT in record.pack for record in found)
    assert (found[3].status, found[3].metric, found[3].stopped) == (FAILED, None, {})
    assert found[3].error is not None
    assert found[3].error.endswith("RuntimeError: no such kernel\n")
    assert found[3].evals == calm[3].evals[:1]
    if not group:
        assert _told(run_pack(trials, setup)) == _told(calm)


def test_a_split_is_said_and_the_finished_half_is_told_at_once(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun, told = list[int](), list[tuple[int, list[str]]]()

    def step(self: TrainStep, real: Any = TrainStep.step) -> None:
        if len(self.pack.trials) > 2:
            raise MemoryError("can't allocate memory")
        begun.append(len(self.pack.trials))
        real(self)

    monkeypatch.setattr(TrainStep, "step", step)
    worker = Worker(RunOptions())
    worker.on_done = lambda records: told.append((len(begun), [record.uid for record in records]))
    cells = sweep.cells[:4]
    records = worker.run([c.trial for c in cells], [c.config for c in cells], 4)
    line = "a pack of 4 trials was split in halves: MemoryError: can't allocate memory"
    assert [record.pack[SPLIT] for record in records] == [[line]] * 4
    assert capsys.readouterr().err.splitlines() == [line]
    assert told == [(4, [c.uid for c in cells[:2]]), (8, [c.uid for c in cells[2:]])], "before the other half begins"


@pytest.mark.parametrize("limit", [True, False])
def test_the_time_limit_costs_no_finished_half(sweep: Sweep, monkeypatch: pytest.MonkeyPatch, limit: bool) -> None:
    """Nor does leaving: the first half is finished when the second is ended."""
    from dse.train.checkpoint import Left

    steps = list[tuple[str, ...]]()

    def run(trials: Any, data: Any, *rest: Any, real: Any = loop._train) -> Any:
        steps.append(tuple(trial.uid for trial in trials.trials))
        if len(trials.trials) > 2:
            raise RuntimeError("too wide")
        if len(steps) == 3:
            raise TimedOut if limit else Left
        return real(trials, data, *rest)

    monkeypatch.setattr(loop, "_train", run)
    cells = sweep.cells[:4]
    uids = tuple(cell.uid for cell in cells)
    records = Worker(RunOptions(timeout=100)).run([c.trial for c in cells], [c.config for c in cells], 4)
    assert tuple(record.uid for record in records) == (uids if limit else uids[:2])
    assert {record.status for record in records} == {OK}
    assert steps == [uids, uids[:2], uids[2:], *([uids[2:3], uids[3:]] if limit else [])]


def test_what_a_dead_worker_had_finished_is_kept(sweep: Sweep, make_record: Any) -> None:
    """And the others are tried in halves, whose records will say why."""
    queue, stored = PackQueue(sweep.cells, 6, width=6), list[str]()
    load = queue.take()
    assert load is not None
    attempt = Attempt(load, lambda found: stored.extend(record.uid for _, record in found))
    uids = [cell.uid for cell in load.cells]
    for _ in range(2):
        attempt.add([make_record(uids[1]), make_record(uids[4])])
    assert stored == [uids[1], uids[4]]
    assert attempt.fail(queue, "it was killed") is None
    halves = [queue.take(), queue.take()]
    assert [[cell.uid for cell in half.cells] for half in halves if half] == [[uids[0], uids[2]], [uids[3], uids[5]]]
    for half in filter(None, halves):
        assert half.splits == ("a pack of 4 trials was split in halves: it was killed",)
        queue.done(half, 2)
    assert queue.exhausted()
