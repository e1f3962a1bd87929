"""Files are UTF-8 whatever the locale says, and nothing that is printed ends a command."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dse.results.store import Store

ROOT = Path(__file__).resolve().parents[1]
SWEEP = """\
name: greek
tasks: [regression: {training: {steps: 3}}]
recipes: [bf16, 'Ünï α😀 ×': {base: mxfp4}]
seeds: 1
"""
LOCALES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "utf-16": {"PYTHONIOENCODING": "utf-16"},
    "C": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "others": {"LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati", "COLUMNS": "20"},
}


def text_files(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Calls that read or write text in the encoding of the locale: the line, and the name of the function."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        owner = getattr(getattr(node.func, "value", None), "id", "")
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        words = [a.value for a in (*node.args, keywords.get("mode")) if isinstance(a, ast.Constant)]
        modes = [word for word in words if isinstance(word, str) and set(word) <= set("rwabt+x")]
        text = {
            "read_text": True,
            "write_text": True,
            "open": owner not in ("os", "tarfile", "Image", "self") and not any("b" in mode for mode in modes),
            "fdopen": not any("b" in mode for mode in modes),
            "NamedTemporaryFile": bool(modes) and not any("b" in mode for mode in modes),
            **dict.fromkeys(("run", "Popen", "check_output"), "text" in keywords),
        }
        if text.get(name) and "encoding" not in keywords:
            yield node.lineno, name


@pytest.mark.parametrize("folder", ["dse", "tasks", "tools"])
def test_every_text_file_names_its_encoding(folder: str) -> None:
    methods = ("def open(", "_rungs.open(", "_tracking.open(", "self.open(")
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        for number, name in text_files(ast.parse(source)):
            if not (name == "open" and any(word in lines[number - 1] for word in methods)):
                found.append(f"{path.relative_to(ROOT)}:{number}: {name} without encoding")
    assert not found


def test_the_rule_finds_what_it_is_about() -> None:
    bad = "p.read_text()\nopen('x')\np.open('w')\nrun(c, text=True)\nos.fdopen(f, 'w')\n"
    good = "p.read_text(encoding='utf-8')\nopen('x', 'rb')\nrun(c)\nos.open(p, 0)\n"
    assert [line for line, _ in text_files(ast.parse(bad))] == [1, 2, 3, 4, 5]
    assert not list(text_files(ast.parse(good)))


def dse(folder: Path, words: list[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command in another process, from ``folder``."""
    own = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),  # of compiled loops
        **environment,
    }
    return subprocess.run(
        [sys.executable, "-m", "dse.cli", *words], cwd=folder, env=own, capture_output=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep whose label no narrow encoding has, run under ASCII."""
    made = tmp_path_factory.mktemp("encodings")
    (made / "x.yaml").write_text(SWEEP, encoding="utf-8")
    words = ["run", "x.yaml", "--executor", "local", "--no-track"]
    done = dse(made, words, PYTHONIOENCODING="ascii", LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr.decode()
    return made


def test_status_in_ascii(folder: Path) -> None:
    done = dse(folder, ["status", "x.yaml"], **LOCALES["ascii"])
    assert done.returncode == 0, done.stderr.decode()
    assert rb"\xdcn\xef \u03b1\U0001f600 \xd7" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("words", ["plan x.yaml", "status x.yaml", "recipes", "report x.yaml"])
@pytest.mark.parametrize("locale", LOCALES.values(), ids=LOCALES)
def test_every_command_in_any_encoding(folder: Path, words: str, locale: dict[str, str]) -> None:
    done = dse(folder, words.split(), **locale)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Traceback" not in done.stderr


def test_a_reader_that_goes_away_ends_a_command_quietly(folder: Path) -> None:
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "dse.cli", "recipes"], env=own, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_sweep_goes_on_when_nobody_reads(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(SWEEP, encoding="utf-8")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "dse.cli", "run", "x.yaml", "--executor", "local", "--no-track"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [record.status for record in Store(tmp_path / "results").records()] == ["ok", "ok"]
