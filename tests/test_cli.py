"""The command line: its verbs are frozen, and a mistake is one line on stderr."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from signal import SIGINT, SIGTERM

import pytest

from dse import cli
from dse.extras import EXTRAS
from dse.run.interrupt import Stopped

ROOT = Path(__file__).parents[1]
VERBS = {
    "init",
    "plan",
    "run",
    "status",
    "why",
    "ask",
    "compare",
    "report",
    "dashboard",
    "recipes",
    "cost",
    "schema",
    "power",
    "data",
    "doctor",
}
SWEEP = """
name: tiny
tasks: [{regression: {training: {steps: 3}}}]
recipes: [bf16, mxfp4]
seeds: 1
"""


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Runs `dse WORDS` in this process; the exit code."""
    monkeypatch.setattr(sys, "argv", ["dse", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_the_verbs_are_frozen() -> None:
    """A new verb is a decision: knobs belong into the sweep file."""
    assert {command.callback.__name__ for command in cli.app.registered_commands if command.callback} == VERBS


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert call(monkeypatch, verb, "--help") == 0
    assert "Example" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["run", "{sweep}", "--device", "cuda:x", "--executor", "local"], "cuda"),
        (["run", "{sweep}", "--device", "gpu"], "--device 'gpu' is unknown; did you mean 'cpu'?"),
        (["run", "{sweep}", "--executor", "local", "--results", "{file}"], "{file}"),
        (["report", "{sweep}", "--out", "{file}", "--results", "{results}"], "{file}"),
        (["recipes", "nvfp5"], "unknown recipe 'nvfp5'; did you mean 'nvfp4'?"),
        (["cost", "nvfp4", "--shape", "1,2"], "1,2"),
        (["cost", "nvfp4", "--set", "G.rounding"], "write PATH=VALUE"),
        (["cost", "nvfp4", "--set", "G.rounding=stochastc"], "did you mean 'stochastic'?"),
        (["cost", "nvfp4", "--set", "forward.scale_slope=dge"], "no gradient flows through the scale"),
        (["dashboard", "--results", "{results}"], "run a sweep first"),
    ],
)
def test_mistakes_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: list[str],
    message: str,
) -> None:
    places = {"sweep": tmp_path / "sweep.yaml", "file": tmp_path / "file", "results": tmp_path / "results"}
    places["sweep"].write_text(SWEEP, encoding="utf-8")
    places["file"].write_text("in the way", encoding="utf-8")
    assert call(monkeypatch, *(word.format(**places) for word in words)) == 2
    error = capsys.readouterr().err
    assert message.format(**places) in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_library_of_an_extra_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        assert call(patch, "run", str(tmp_path / "sweep.yaml"), "--results", str(tmp_path / "results")) == 1
    text = "error: this needs ray, which is not installed; run: pip install 'fp4-dse[sweep]'\n"
    assert capsys.readouterr().err.endswith(text)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for module, extra in EXTRAS.items():
        assert any(line.startswith(module.replace("sklearn", "scikit-learn")) for line in extras[extra]), module


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"dse {version('fp4-dse')}\n"


def test_a_sweep_from_plan_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep, results = tmp_path / "sweep.yaml", str(tmp_path / "results")
    sweep.write_text(SWEEP, encoding="utf-8")
    said = {}
    for verb, *more in (["plan"], ["run", "--executor", "local", "--no-track"], ["run"], ["status"]):
        assert call(monkeypatch, verb, str(sweep), "--results", results, *more) == 0
        said[verb, len(more)] = capsys.readouterr().out
    assert "2 trials, 1 of them baselines: 0 done, 2 to run" in said["plan", 0]
    assert "all 2: 2 ok" in said["run", 3]
    assert "nothing to do, all 2 trials are done" in said["run", 0]
    assert "2 of 2 trials done, 2 ok" in said["status", 0]


def test_exit_codes_say_how_a_sweep_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep, told = tmp_path / "sweep.yaml", tmp_path / "told"
    sweep.write_text(SWEEP, encoding="utf-8")
    words = ["run", str(sweep), "--results", str(tmp_path / "results"), "--executor", "local", "--no-track"]
    with monkeypatch.context() as patch:
        patch.setattr("dse.train.pack_run.TrainStep", lambda *_a: 1 / 0)
        assert call(patch, *words, "--then", f"echo $DSE_FAILED of $DSE_TOTAL: $DSE_EXIT_CODE > {told}") == 1
    assert "all 2: 0 ok, 0 diverged, 2 failed" in capsys.readouterr().out
    assert told.read_text(encoding="utf-8") == "2 of 2: 1\n", "every trial has a result"
    told.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("dse.results.store.Store.done", lambda _: {})  # what was stored is gone
        assert call(patch, *words, "--retry", "all", "--then", f"touch {told}") == 1
    assert (
        f"2 trials have no result, though the sweep has ended; go on with: dse run {sweep}" in capsys.readouterr().out
    )
    assert not told.exists()
    assert call(monkeypatch, *words, "--retry", "failed") == 0


@pytest.mark.parametrize("error", [Stopped(SIGTERM), KeyboardInterrupt()])
def test_a_run_that_is_stopped_at_once_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, error: KeyboardInterrupt
) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP, encoding="utf-8")

    def stopped(*_args: object, **_kinds: object) -> None:
        raise error

    monkeypatch.setattr("dse.run.engine.run_sweep", stopped)
    number = getattr(error, "number", SIGINT)
    words = ["run", str(tmp_path / "sweep.yaml"), "--device", "cpu"]
    assert call(monkeypatch, *words) == 128 + number
    assert capsys.readouterr().err == f"stopped by {number.name}; go on with: dse {' '.join(words)}\n"


def test_a_damaged_table_is_said_and_its_trials_run_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep, results, out = tmp_path / "sweep.yaml", tmp_path / "results", str(tmp_path / "reports")
    sweep.write_text(SWEEP, encoding="utf-8")
    run = ["run", str(sweep), "--results", str(results), "--executor", "local", "--no-track"]
    assert call(monkeypatch, *run) == 0
    table = results / "trials.parquet"
    content = bytearray(table.read_bytes())
    content[200] ^= 1
    table.write_bytes(content)
    capsys.readouterr()
    said = (
        f"damaged, and left out: {table} row group 0 (2 trials): those trials count as not run, and `dse run` runs them"
    )
    assert call(monkeypatch, "status", str(sweep), "--results", str(results)) == 0
    assert f"  {said}\n" in capsys.readouterr().out
    assert call(monkeypatch, "report", str(sweep), "--results", str(results), "--out", out) == 1
    assert capsys.readouterr().err.startswith(f"note: {said}\nerror: tiny has no results in {results} yet")
    assert call(monkeypatch, *run) == 0
    captured = capsys.readouterr().out
    assert f"note: {said}\n" in captured
    assert "2 trials run" in captured
    assert call(monkeypatch, "status", str(sweep), "--results", str(results)) == 0
    assert "damaged" not in capsys.readouterr().out
    (aside,) = (results / "damaged").iterdir()
    assert aside.read_bytes() == content


def test_the_options_of_every_axis_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dse.numerics.registry import FAMILIES
    from dse.optim import OPTIMIZERS

    assert call(monkeypatch, "recipes", "--options") == 0
    out = capsys.readouterr().out
    for family in FAMILIES.values():
        for name in family:
            assert f"\n  {name}" in out
    assert all(name in out for name in OPTIMIZERS)


def test_only_one_trial_and_a_command_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep, results, told = tmp_path / "sweep.yaml", str(tmp_path / "results"), tmp_path / "told"
    sweep.write_text(SWEEP, encoding="utf-8")
    words = ["run", str(sweep), "--results", results, "--executor", "local", "--no-track"]
    then = f'echo "$DSE_SWEEP $DSE_RESULTS $DSE_RAN $DSE_OK $DSE_FAILED" > {told}'
    assert call(monkeypatch, *words, "--only", "mxfp4@0", "--then", then) == 0
    assert "1 trials run" in capfd.readouterr().out
    assert told.read_text(encoding="utf-8") == f"{sweep} {results} 1 1 0\n"
    assert call(monkeypatch, *words, "--then", "exit 3") == 1
    assert "--then 'exit 3' ended with exit code 3; the sweep itself is complete" in capfd.readouterr().err
    assert call(monkeypatch, "why", "mxfp4@0", "--results", results) == 0
    assert "rerun     dse run " in capfd.readouterr().out
    assert call(monkeypatch, "why", "zebra@0", "--results", results) == 2
    assert call(monkeypatch, "status", "--results", results) == 0
    assert "regression  2 ok" in capfd.readouterr().out


def test_home_in_the_middle_of_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert call(monkeypatch, "status", "--results=~/mine") == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/mine holds no results yet")


def test_a_report_without_results_leaves_pages_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    (tmp_path / "reports").mkdir()
    words = ["report", str(tmp_path / "sweep.yaml"), "--results", str(tmp_path / "none"), "--out"]
    assert call(monkeypatch, *words, str(tmp_path / "reports")) == 1
    assert "has no results in" in capsys.readouterr().err
    assert list((tmp_path / "reports").iterdir()) == []
