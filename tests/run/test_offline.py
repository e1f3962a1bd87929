"""Offline runs: trials in a bundle, trained within limits on a machine that cannot read sweep files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dse.errors import UserError
from dse.kernels.availability import Gpu
from dse.kernels.kernel_jobs import KernelJob
from dse.results.shards import shard_paths
from dse.results.store import Store
from dse.run import offline
from dse.run.bundle import read_bundle, write_bundle
from dse.sweep import load_sweep
from dse.train import warmup
from dse.train.checkpoint import Checkpoints
from dse.train.options import RunOptions
from tests.tasks.no_network import without_network

SWEEP = """
    name: small
    tasks:
      - regression
      - image: {training: {steps: 4}}
    recipes: [bf16, nvfp4, mxfp4]
    seeds: 2
    training: {steps: 3, batch: 4}
"""
ABSENT = "ruamel ruamel.yaml typer polars pandas mlflow ray optuna seaborn matplotlib jinja2 scipy sklearn"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text("\n".join(line[4:] for line in SWEEP.splitlines()), encoding="utf-8")
    return path


def test_planned_here_and_run_on_a_bare_machine(file: Path, tmp_path: Path) -> None:
    bundle, out = tmp_path / "parcel.json", tmp_path / "away"
    assert (
        offline.main(["plan", str(file), "--out", str(bundle), "--results", str(tmp_path / "none"), "--task", "*regr*"])
        == 0
    )
    code = (
        f"import sys\nfor name in {ABSENT.split()!r}: sys.modules[name] = None\n"
        "from dse.run.offline import main\nraise SystemExit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(bundle), "--out", str(out), "--width", "9", "--width", "*image*:1"],
        capture_output=True, text=True, check=False, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "6 ok in" in done.stdout
    assert "width 6" in done.stdout
    assert "0 trials left" in done.stdout
    cells = [cell for cell in load_sweep(file).cells if cell.trial.task.name == "regression"]
    records = {record.uid: record for record in Store(out).records()}
    for cell in cells:
        assert (records[cell.uid].config, records[cell.uid].trial) == (cell.config, cell.trial.spec)
    results = tmp_path / "results"
    (results / "shards").mkdir(parents=True)
    for shard in shard_paths(out / "shards"):
        (results / "shards" / shard.name).write_bytes(shard.read_bytes())
    left = offline.plan([file], bundle, results)
    assert [job.name for job in left] == ["small: image"]


def test_jobs_have_whole_seeds_first_and_survive_the_file(file: Path, tmp_path: Path) -> None:
    jobs = offline.plan([file], tmp_path / "p.json", tmp_path / "none")
    assert [job.name for job in jobs] == ["small: regression", "small: image"]
    assert [item.trial.seed for item in jobs[0].items] == [0, 0, 0, 1, 1, 1]
    back = read_bundle(tmp_path / "p.json")
    assert [[item.uid for item in job.items] for job in back] == [[item.uid for item in job.items] for job in jobs]
    assert [item.baseline_uid for job in back for item in job.items] == [i.baseline_uid for j in jobs for i in j.items]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.update(parcel=99), "version 99"),
        (lambda content: content.pop("jobs"), "is no parcel"),
        (lambda content: content["jobs"][0]["items"][0]["spec"].update(seed=7), "of another version; plan it anew"),
    ],
)
def test_a_bundle_that_means_something_else(file: Path, tmp_path: Path, change: Any, words: str) -> None:
    path = tmp_path / "p.json"
    offline.plan([file], path, tmp_path / "none")
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=words):
        read_bundle(path)
    assert offline.main(["run", str(path), "--out", str(tmp_path / "out")]) == 2


def test_nothing_is_begun_after_the_time(file: Path, tmp_path: Path) -> None:
    jobs = offline.plan([file], tmp_path / "p.json", tmp_path / "none")
    said: list[str] = []
    assert offline.run(jobs, tmp_path / "out", RunOptions(), offline.Limits(seconds=0), said.append) == 12
    assert not said
    assert offline.run(jobs, tmp_path / "out", RunOptions(), offline.Limits(each=0), said.append) == 12


def test_a_pack_that_takes_too_long_leaves_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(
        "tasks: [regression]\nrecipes: [bf16]\nseeds: 1\ntraining: {steps: 100000, batch: 4, eval_every: 1}\n",
        encoding="utf-8",
    )
    jobs = offline.plan([path], tmp_path / "p.json", tmp_path / "none")
    out = tmp_path / "out"
    out.mkdir()
    start = time.monotonic()
    assert offline.run(jobs, out, RunOptions(results=out), offline.Limits(seconds=2, grace=0.5), lambda line: None) == 1
    assert time.monotonic() - start < 60
    (line,) = (out / offline.LEFT).read_text(encoding="utf-8").splitlines()
    told = json.loads(line)
    assert told["uid"] == jobs[0].items[0].uid
    assert told["step"] >= 2
    assert [step for step, _ in told["evals"]][:2] == [0, 1]
    assert not Store(out).done()


def test_a_job_without_its_data_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_network(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "two.yaml"
    path.write_text(
        "tasks: [{image: {source: cifar10}}, regression]\nrecipes: [bf16]\nseeds: 1\ntraining: {steps: 2, batch: 4}\n",
        encoding="utf-8",
    )
    said: list[str] = []
    jobs = offline.plan([path], tmp_path / "p.json", tmp_path / "none")
    assert offline.run(jobs, tmp_path / "out", RunOptions(), offline.Limits(), said.append) == 1
    assert any("cifar-10-binary.tar.gz is missing" in line for line in said)
    assert any("1 ok" in line for line in said)


def test_widths_by_pattern() -> None:
    limits = offline.Limits(widths=(offline._width("64"), offline._width("*size=9M*:21")))
    assert limits.width("a: lm(size=9M)") == 21
    assert limits.width("a: lm") == 64
    assert offline.Limits().width("a: lm") is None


def test_nothing_to_plan(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to run"):
        offline.plan([file], tmp_path / "p.json", tmp_path / "none", ["*nowhere*"])
    write_bundle([], tmp_path / "empty.json")
    assert read_bundle(tmp_path / "empty.json") == []


def test_kernels_of_all_packs_are_known_before(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of packs that can be computed; nothing is compiled where all of them are in the cache, and on a CPU."""
    pytest.importorskip("triton")
    (trials, *_) = [
        [item.trial for item in job.items] for job in offline.plan([file], tmp_path / "p.json", tmp_path / "n")
    ]
    broken = [replace(t, training=replace(t.training, optimizer="none")) for t in trials]
    asked: list[str] = []

    def known(job: KernelJob) -> bool:
        asked.append(job.kernel.name)
        return True

    monkeypatch.setattr(KernelJob, "is_compiled", known)
    found = warmup.compile_packs([trials, broken], None, Gpu((9, 0), 132), 1, asked.append)
    assert (found.kernels, found.packs) == (0, 1), found
    assert "unknown optimizer 'none'" in found.problems[0]
    assert "quantize_kernel" in asked
    assert warmup.warm([trials], "cpu", None, 1, asked.append).packs == 0


def test_what_cannot_be_taken_along_is_said(tmp_path: Path) -> None:
    head = "name: s\ntasks: [regression]\nrecipes: [bf16, mxfp4]\nseeds: 1\ngrid: {training.lr: [0.1, 0.2]}\n"
    path, said = tmp_path / "s.yaml", list[str]()
    path.write_text(head + "search: {method: tpe, trials: 2}\n", encoding="utf-8")
    with pytest.raises(UserError, match="s: tpe chooses its next trials by results"):
        offline.plan([path], tmp_path / "p.json", tmp_path / "none", say=said.append)
    assert said == []
    path.write_text(head + "probes: {every: 2}\nsearch: {method: grid, halving: {}}\n", encoding="utf-8")
    assert offline.plan([path], tmp_path / "p.json", tmp_path / "none", say=said.append)
    assert said == ["s: trained without its halving and probes"]


def test_a_signal_ends_it_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, bundle, out = tmp_path / "small.yaml", tmp_path / "p.json", tmp_path / "out"
    path.write_text(
        "name: long\ntasks: [{regression: {training: {steps: 300000, batch: 8}}}]\nrecipes: [bf16]\nseeds: 1\n",
        encoding="utf-8",
    )
    offline.plan([path], bundle, tmp_path / "none")
    real = Checkpoints.due
    steps = list[int]()

    def due(own: Checkpoints) -> bool:
        steps.append(1)
        if len(steps) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(own)

    monkeypatch.setattr(Checkpoints, "due", due)
    assert offline.main(["run", str(bundle), "--out", str(out)]) == 128 + signal.SIGTERM
    assert len(list(out.glob("checkpoints/*/step-*.pt"))) == 1


@pytest.mark.parametrize("module", ["dse.run.offline", "dse.run.away"])
def test_the_exit_code_by_both_names(module: str, tmp_path: Path) -> None:
    """``dse.run.away`` is the former name."""
    command = [sys.executable, "-m", module, "run", str(tmp_path / "missing.json"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
