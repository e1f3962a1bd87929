"""Every module that is a program prints its help for ``--help``, and does nothing else."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = ("dse.__main__", "dse.cli")
"""These set up the terminal of their process, so they get one."""


def is_program(path: Path) -> bool:
    """Whether a file runs something as a program: it says so, or is the program of a package."""
    if path.name == "__main__.py":
        return True
    tests = (node.test for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.If))
    return any("__name__" in ast.unparse(test) and "__main__" in ast.unparse(test) for test in tests)


def programs(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if is_program(path))


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = [module(path) for folder in ("dse", "tasks") for path in programs(folder)]


def test_programs_are_found() -> None:
    assert {*COMMANDS, "dse.bench.kernels", "dse.run.offline", "dse.run.away", "dse.report.task_table"} <= {*MODULES}
    assert len(MODULES) >= 12
    assert {path.stem for path in programs("tools")} == {
        "check_gpu",
        "performance_tables",
        "time_plain_operands",
        "time_planning",
        "time_quantizers",
        "walk",
    }


@pytest.mark.parametrize("name", [name for name in MODULES if name not in COMMANDS])
def test_help_of_modules(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    assert_help(ended.value.code, *capsys.readouterr())
    assert not any(tmp_path.iterdir())


SCRIPTS = [*programs("tools"), *(ROOT / "tests" / name for name in ("golden/make.py", "processors/across.py"))]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_help_of_scripts(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert_help(ended.value.code, *capsys.readouterr())
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_the_command_line(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", name.removesuffix(".__main__"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=False)
    assert_help(done.returncode, done.stdout, done.stderr)
    assert not any(tmp_path.iterdir())


def assert_help(code: object, out: str, err: str) -> None:
    assert code in (0, None), err
    assert out.lower().lstrip().startswith("usage:"), out
    assert "--help" in out
    assert err == ""


@pytest.mark.parametrize("name", ["dse.report.zoo", "dse.run.away"])
def test_former_names_report_failure(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {"dse.report.zoo": ["results"], "dse.run.away": ["run", "none.json", "--out", "out"]}[name]
    monkeypatch.setattr(sys, "argv", [name, *given])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    assert ended.value.code == 2
