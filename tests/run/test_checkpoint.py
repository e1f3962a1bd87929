"""Checkpoints: a training that was interrupted anywhere goes on as if it had not been, bit for bit on the CPU."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dse.numerics.recipe import override
from dse.recipes import RECIPES
from dse.results.record import DIVERGED, OK, Record
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.run.executors.worker import Worker
from dse.sweep import load_sweep
from dse.tasks import TASKS
from dse.tasks.base import Training
from dse.train import checkpoint
from dse.train.checkpoint import Checkpoints, Left, clean, key
from dse.train.halving import HalvingRule
from dse.train.loop import TrainContext, run_pack
from dse.train.options import RunOptions
from dse.trial import Trial
from tests.records import content

ROOT = Path(__file__).parents[2]
TASK = TASKS["regression"]()
STEPS = 12


class Killed(BaseException):
    """What stands for a kill: it takes everything along that is not on the disk."""


def trial(recipe: str, seed: int, *changes: tuple[str, object], **training: object) -> Trial:
    own = Training(**{"steps": STEPS, "batch": 16, "lr": 1e-3, "eval_every": 4} | training)  # type: ignore[arg-type]
    numerics = RECIPES[recipe]
    for name, value in changes:
        numerics = override(numerics, name, value)
    return Trial(TASK, own, numerics, seed)


def killed_at(step: int) -> Callable[[int, int], None]:
    def on_step(now: int, steps: int) -> None:
        if now == step:
            raise Killed

    return on_step


def run(trials: Sequence[Trial], folder: Path, stop: int = -1, halving: HalvingRule | None = None) -> list[Record]:
    """With a checkpoint after every step, killed before the step ``stop``."""
    checkpoints = Checkpoints(folder, every=0.0)
    return run_pack(trials, TrainContext(RunOptions(halving=halving), killed_at(stop), checkpoints=checkpoints))


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(checkpoint, "_SHARE", 0)


DELAYED = ("fprop.lhs.tensor_scale", {"delayed": {"every": 5}})
MIXED = {
    "schedules": [
        trial("nvfp4", 0, ("schedule", {"last_stage": {"share": 0.5}})),
        trial("nvfp4", 1, ("schedule", {"forward_only": {"share": 0.3}})),
        trial("mxfp4_rht_sr", 2, ("schedule", "noise_switch")),
        trial("mxfp4", 3, ("schedule", {"noise_switch": {"factor": 50.0}})),
    ],
    "weights": [
        trial("tetrajet", 0, ("weights", {"q_ema": {"warmup": 3}})),
        trial("tetrajet", 1, ("weights", {"q_ema": {"warmup": 3}})),
        trial("mxfp4", 1, ("weights", {"q_ramping": {"every": 6, "track": 3}})),
        trial("mxfp4", 2, ("weights", {"osci_reset": {"every": 5, "track": 3}})),
    ],
    "delayed": [trial("nvfp4", 0, DELAYED), trial("nvfp4", 1, DELAYED), trial("mxfp4", 0), trial("bf16", 0)],
    "stable_spam": [trial(r, s, optimizer="stable_spam") for s, r in enumerate(("nvfp4", "bf16", "tetrajet"))],
    "muon": [trial(r, s, optimizer="muon", first_moment="fp8") for s, r in enumerate(("nvfp4", "bf16"))],
    "dynamic": [trial(r, s, loss_scaling="dynamic") for s, r in enumerate(("nvfp4", "bf16", "mxfp4_rht_sr"))],
    "sgd": [trial(r, s, optimizer="sgd", lr=0.05) for s, r in enumerate(("nvfp4", "mxfp4"))],
    "diverged": [
        trial("nvfp4", 0),
        trial("nvfp4", 1, lr=1e6, clip=0.0, warmup=0.0),
        trial("bf16", 1, weight_decay=0.1, schedule="linear"),
    ],
}


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("kind", MIXED)
def test_interrupted_anywhere(kind: str, times: int, tmp_path: Path) -> None:
    trials = list(MIXED[kind])
    undisturbed = [content(record) for record in run_pack(trials)]
    seed = sum(map(ord, kind))
    chance = random.Random(seed)
    for number, first in enumerate(chance.sample(range(1, STEPS), times)):
        second = chance.randrange(first, STEPS)
        print(f"seed {seed}: killed at {first} and {second}")
        folder = tmp_path / str(number)
        folder.mkdir()
        for stop in (first, second):
            with pytest.raises(Killed):
                run(trials, folder, stop)
        records = run(trials, folder)
        assert [content(record) for record in records] == undisturbed
        assert {record.pack["resumed_at"] for record in records} == {second}
    if kind == "diverged":
        assert [record.status for record in records] == [OK, DIVERGED, OK]


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("stable_spam", marks=pytest.mark.exhaustive)])
def test_other_company(optimizer: str, tmp_path: Path) -> None:
    """Members go on wherever they are, with whomever: their rows are found by their uids."""
    recipes = ("nvfp4", "tetrajet", "bf16", "mxfp4")
    trials = [trial(r, s, optimizer=optimizer) for s in (0, 1) for r in recipes]
    trials += [trial("nvfp4", 5, DELAYED, optimizer=optimizer), trial("bf16", 7, optimizer=optimizer)]
    undisturbed = {record.uid: content(record) for record in run_pack(trials)}
    with pytest.raises(Killed):
        run(trials[:5], tmp_path, 4)
    with pytest.raises(Killed):
        run(trials[5:9], tmp_path, 7)
    some = trials[::-1][:8]
    assert [content(r) for r in run(some, tmp_path)] == [undisturbed[t.uid] for t in some]
    records = run(trials, tmp_path)
    assert [content(record) for record in records] == [undisturbed[t.uid] for t in trials]
    assert records[0].pack["resumed_at"] == 4
    assert "resumed_at" not in records[9].pack or records[9].pack["resumed_at"] > 0


@pytest.mark.parametrize(
    "stop", [pytest.param(2, marks=pytest.mark.exhaustive), 5, pytest.param(8, marks=pytest.mark.exhaustive), 11]
)
def test_halving(stop: int, tmp_path: Path) -> None:
    trials = [trial(r, 0, lr=lr) for r in ("nvfp4", "tetrajet") for lr in (1e-4, 1e-3, 1e-2)]
    rule = HalvingRule(2, (0.25, 0.5))
    undisturbed = [content(record) for record in run_pack(trials, TrainContext(RunOptions(halving=rule)))]
    with pytest.raises(Killed):
        run(trials, tmp_path, stop, rule)
    records = run(trials, tmp_path, halving=rule)
    assert [content(record) for record in records] == undisturbed
    assert {r.pack.get("resumed_at") for r in records if r.status == OK} == {stop}


def only(folder: Path) -> Path:
    (own,) = (folder / "checkpoints").iterdir()
    return own


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in only(folder).iterdir())


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "none is whole"])
def test_a_torn_newest_file(damage: str, tmp_path: Path) -> None:
    trials = [trial("nvfp4", 0), trial("bf16", 1)]
    undisturbed = [content(record) for record in run_pack(trials)]
    with pytest.raises(Killed):
        run(trials, tmp_path, 6)
    assert steps(tmp_path) == ["members", "step-5.pt", "step-6.pt"]
    newest = only(tmp_path) / "step-6.pt"
    data = bytearray(newest.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 16
    newest.write_bytes({"cut": data[: len(data) // 2], "flipped": data}.get(damage, b""))
    if damage == "none is whole":
        (only(tmp_path) / "step-5.pt").write_bytes(b"PK")
    (only(tmp_path) / ".step-7.pt.1").write_bytes(b"torn")
    start = 0 if damage == "none is whole" else 5
    seen: list[int] = []
    setup = TrainContext(on_step=lambda step, _: seen.append(step), checkpoints=Checkpoints(tmp_path, 0.0))
    records = run_pack(trials, setup)
    assert [content(record) for record in records] == undisturbed
    assert seen == list(range(start, STEPS))
    assert steps(tmp_path) == ["members", f"step-{STEPS - 1}.pt", f"step-{STEPS}.pt"]


def test_of_another_torch_or_data_it_means_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [trial("mxfp4", 0)]
    with pytest.raises(Killed):
        run(trials, tmp_path, 6)
    for name, value in (("versions", {"torch": "1.0"}), ("use_kernels", True)):
        with monkeypatch.context() as patch:
            patch.setattr(f"dse.train.resume.{name}", lambda *_, value=value: value)
            assert "resumed_at" not in run_pack(trials, TrainContext(checkpoints=Checkpoints(tmp_path)))[0].pack
    assert run_pack(trials, TrainContext(checkpoints=Checkpoints(tmp_path)))[0].pack["resumed_at"] == 6
    torch.save({"setting": {}, "course": 1}, only(tmp_path) / "step-8.pt")
    assert "resumed_at" not in run_pack(trials, TrainContext(checkpoints=Checkpoints(tmp_path)))[0].pack


def test_short_trainings_write_nothing(tmp_path: Path) -> None:
    run_pack([trial("mxfp4", 0)], TrainContext(checkpoints=Checkpoints(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_a_folder_out_of_reach(tmp_path: Path) -> None:
    own, gone = [trial("mxfp4", 0)], Checkpoints(tmp_path / "elsewhere", 0.0)
    (record,) = run_pack(own, TrainContext(checkpoints=gone))
    assert record.status == OK
    assert record.pack["no_checkpoint_because"] == "the results folder is not reachable from here"
    assert not list(tmp_path.iterdir())
    (tmp_path / "checkpoints").write_text("in the way", encoding="utf-8")
    (record,) = run_pack(own, TrainContext(checkpoints=Checkpoints(tmp_path, 0.0)))
    assert record.pack["no_checkpoint_because"] == "Not a directory"


def test_asked_to_leave(tmp_path: Path) -> None:
    """A long pack leaves with a checkpoint; one that is about to end ends."""
    trials, folder = [trial("nvfp4", 0), trial("mxfp4", 1)], RunOptions(results=tmp_path, checkpoint=0.0)
    undisturbed = [content(record) for record in run_pack(trials)]
    worker = Worker(folder)
    names = [t.recipe.name for t in trials]
    assert worker.run(trials, names, 2, lambda step, _: worker.stop() if step == 5 else None) == []
    assert "step-6.pt" in steps(tmp_path)
    records = worker.run(trials, names, 2)
    assert [content(record) for record in records] == undisturbed
    assert records[0].pack["resumed_at"] == 6
    assert len(Worker(replace(folder, checkpoint=60.0)).run(trials, names, 2, lambda *_: worker.stop())) == 2
    with pytest.raises(Left):
        run_pack([trial("mxfp4", 9)], TrainContext(checkpoints=Checkpoints(tmp_path, 0.0, leaving=lambda: True)))


def test_cleaning(tmp_path: Path) -> None:
    trials = [trial("nvfp4", 0), trial("bf16", 1)]
    run(trials, tmp_path)
    uids = {t.uid for t in trials}
    assert only(tmp_path).name == key(sorted(uids)) == key(sorted(uids, reverse=True))
    clean(tmp_path, {trials[0].uid})
    assert only(tmp_path)
    clean(tmp_path, {*uids, "another"})
    assert not list((tmp_path / "checkpoints").iterdir())


SWEEP = """
name: long
tasks: [{regression: {training: {steps: 120, batch: 16, eval_every: 40}}}]
recipes: [bf16, tetrajet]
"""
DRIVER = """
import sys
from pathlib import Path
from dse.run import engine
from dse.train import checkpoint
from dse.run.executors import local
from dse.results.store import Store
from dse.sweep import load_sweep
from dse.train.options import RunOptions

checkpoint._SHARE = 0
plain = local.Worker
local.Worker = lambda options: plain(__import__("dataclasses").replace(options, checkpoint=0.05))
options = RunOptions("local", track=False, progress=False)
engine.run_sweep(load_sweep(Path(sys.argv[1])), Store(Path(sys.argv[2])), options)
"""


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    sweep, results = tmp_path / "long.yaml", tmp_path / "results"
    sweep.write_text(SWEEP, encoding="utf-8")
    undisturbed = Store(tmp_path / "undisturbed")
    run_sweep(load_sweep(sweep), undisturbed, RunOptions("local", track=False, progress=False))
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DRIVER, str(sweep), str(results)]
    seed, end = 3, time.monotonic() + 90
    with subprocess.Popen(command, env=env) as process:
        while process.poll() is None and not list((results / "checkpoints").glob("*/step-*.pt")):
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(random.Random(seed).uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL, f"seed {seed}: it was over before the kill"
    assert list((results / "checkpoints").glob("*/step-*.pt"))
    store = Store(results)
    summary = run_sweep(load_sweep(sweep), store, RunOptions("local", track=False, progress=False))
    assert summary.left == 0
    assert not list((results / "checkpoints").iterdir())
    records = store.records()
    assert any("resumed_at" in record.pack for record in records)
    assert [content(record) for record in records] == [content(record) for record in undisturbed.records()]
