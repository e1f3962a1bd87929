"""``dse run --slurm``: what Slurm is asked for, and what a job does at its end. ``squeue``, ``sbatch`` and ``srun`` are
stand-ins here; how it went with a real Slurm is in docs/cluster.md."""

from __future__ import annotations

import doctest
import json
import signal
import sys
from pathlib import Path

import pytest

from dse import cli
from dse.commands import sweeps
from dse.commands.slurm import FOLDER, SweepJob
from dse.errors import UserError
from dse.results.store import Store
from dse.run.slurm import ray_nodes, request
from dse.run.slurm.allocation import Allocation, allocation
from dse.run.slurm.request import SlurmRequest
from dse.train import loop
from dse.train.options import RunOptions
from tests.run.oracle import fake_pack

SWEEP = "name: tiny\ntasks: [{regression: {training: {steps: 2}}}]\nrecipes: [bf16, mxfp4]\nseeds: 1\n"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with programs of Slurm; ``sbatch`` keeps what it is given, ``squeue`` says what is in ``state``."""
    programs = tmp_path / "bin"
    programs.mkdir()
    lines = {"sbatch": f'cp "$1" {tmp_path}/job.sh && echo Submitted batch job 12', "srun": "exit 9"}
    lines["squeue"] = f"cat {tmp_path}/state"
    for name, line in lines.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    (tmp_path / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Runs `dse run WORDS` in this process; the exit code."""
    monkeypatch.setattr(sys, "argv", ["dse", "run", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_times() -> None:
    found = doctest.testmod(request)
    assert found.attempted
    assert not found.failed


def test_the_file_for_sbatch(slurm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    results = slurm / "my results"
    words = [slurm / "sweep.yaml", "--results", results, "--slurm", "--partition", "gpu", "--account", "me"]
    words += ["--time", "1-12", "--nodes", "2", "--gpus", "4", "--jobs", "3", "--sbatch", "qos=low", "--sbatch"]
    assert call(monkeypatch, *words, "exclusive") == 0
    said = capsys.readouterr().out
    assert "submitted to Slurm as jobs 12_0, 12_1, 12_2" in said
    assert "scancel 12\n" in said
    assert f"dse status {slurm}/sweep.yaml --results '{results}' --watch" in said
    lines = (slurm / "job.sh").read_text(encoding="utf-8").splitlines()
    asked = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH"))
    assert asked.pop("output").strip("'") == f"{results}/{FOLDER}/%A_%a_0_log.out"
    assert asked == {
        "account": "me",
        "array": "0-2%3",
        "cpus-per-task": "4",
        "exclusive": "",
        "gpus-per-node": "4",
        "job-name": "dse-tiny",
        "nodes": "2",
        "ntasks-per-node": "1",
        "open-mode": "append",
        "partition": "gpu",
        "qos": "low",
        "requeue": "",
        "signal": "TERM@60",
        "time": "2160",
    }
    assert "export SUBMITIT_PREEMPT_SIGNAL=TERM" in lines
    assert len([*(results / FOLDER).glob("12_*_submitted.pkl")]) == 3


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--gpus", "2", "--time", "90"], 2, "--time, --gpus: of use with --slurm alone"),
        (["--slurm", "--time", "1:2:3:4"], 2, "--time '1:2:3:4': write minutes"),
        (["--slurm", "--time", "2"], 2, "--time '2' is too short"),
        (["--slurm", "--sbatch", "qos="], 2, "write KEY=VALUE or KEY"),
        (["--slurm", "--sbatch", "cpus_per_task=3"], 2, "write --cpus"),
        (["--slurm", "--sbatch", "signal=USR1"], 2, "set by the launcher"),
        (["--slurm", "--nodes", "2", "--executor", "tune"], 2, "--nodes 2 needs --executor ray, not tune"),
        (["--slurm", "--sbatch", "exclusive", "--sbatch", "exclusive"], 2, "given twice"),
    ],
)
def test_mistakes(
    slurm: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    assert call(monkeypatch, slurm / "sweep.yaml", "--results", slurm / "results", *words) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (slurm / "job.sh").exists()


def test_without_slurm_or_refused_by_it(
    slurm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [slurm / "sweep.yaml", "--results", slurm / "results", "--slurm"]
    (slurm / "bin/sbatch").write_text("#!/bin/sh\necho invalid partition >&2; exit 1\n", encoding="utf-8")
    assert call(monkeypatch, *words) == 1
    assert "error: Slurm: " in (said := capsys.readouterr().err)
    assert "invalid partition" in said
    monkeypatch.setenv("PATH", str(slurm))
    assert call(monkeypatch, *words) == 1
    assert "srun" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert call(monkeypatch, *words) == 1
    text = "error: this needs submitit, which is not installed; run: pip install 'fp4-dse[slurm]'\n"
    assert capsys.readouterr().err == text


def test_the_job_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "1", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "4"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert allocation() == Allocation("7", 0, 1, 2, 4)
    more = {"SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "2", "SLURM_RESTART_COUNT": "3"}
    for name, value in more.items():
        monkeypatch.setenv(name, value)
    assert allocation() == Allocation("6_2", 3, 1, 2, 4)


@pytest.mark.parametrize(
    ("state", "code", "requeued"), [("RUNNING", 143, 1), ("COMPLETING", 143, 0), ("", 143, 0), ("RUNNING", 1, 0)]
)
def test_what_goes_back_into_the_queue(
    slurm: Path, monkeypatch: pytest.MonkeyPatch, state: str, code: int, requeued: int
) -> None:
    """A run that a signal has stopped, unless Slurm ends its job anyway; never one that has ended by itself."""
    (slurm / "state").write_text(state, encoding="utf-8")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    monkeypatch.setattr(sweeps, "run", lambda *_: code)
    calls = []
    before = signal.signal(signal.SIGTERM, lambda *_: calls.append(signal.getsignal(signal.SIGTERM)))
    try:
        with pytest.raises(SystemExit) as stop:
            SweepJob(("dse", "run"), slurm / "sweep.yaml", slurm / "results", RunOptions(device="cpu"))()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stop.value.code == code
    assert calls == [signal.SIG_IGN] * requeued, "what comes later must not stop it once more"


def test_a_job_runs_the_sweep_with_its_processors(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    monkeypatch.setattr(loop, "run_pack", fake_pack)
    seen, real = [], sweeps.run
    monkeypatch.setattr(sweeps, "run", lambda *given: (seen.append(given[2]), real(*given))[1])
    job = SweepJob(("dse",), slurm / "sweep.yaml", slurm / "results", RunOptions("local", device="cpu", track=False))
    before = signal.getsignal(signal.SIGTERM)
    try:
        job()
        with pytest.raises(SystemExit) as stop:
            SweepJob(("dse",), slurm / "no.yaml", slurm / "results", RunOptions("local", device="cpu"))()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stop.value.code == 2
    assert seen[0].workers == 3
    assert sorted(record.status for record in Store(slurm / "results").records()) == ["ok", "ok"]


def test_what_the_first_node_tells_the_others(tmp_path: Path) -> None:
    path = tmp_path / "7-0.ray.json"
    assert ray_nodes._read(path) is None
    ray_nodes._write(path, {"address": "a:1", "token": "secret"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert ray_nodes._read(path) == {"address": "a:1", "token": "secret"}
    ray_nodes._write(path, {})
    assert json.loads(path.read_text(encoding="utf-8")) == {}
    ray_nodes.ray_node(Allocation("7", 0, 1, 2), tmp_path)  # the first has ended: nothing to do
    with pytest.raises(UserError, match="--sbatch"):
        SlurmRequest(sbatch=("Qos",))
