"""Commands that are printed work when they are pasted, whatever folders and options were given."""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dse import shell
from dse.cli import app
from dse.results.record import FAILED, Record
from dse.shell import DEFAULTS, STAYING, command
from dse.train import loop
from tests.run.oracle import fake_pack

FILE = "tasks: [{regression: {training: {steps: 2}}}]\nrecipes: [mxfp4]\nseeds: 1\n"
GIVEN = ["--results", "my results", "--data-dir", "my data", "--executor", "local", "--device", "cpu", "--no-track"]


def test_examples_and_defaults() -> None:
    found = doctest.testmod(shell)
    assert found.attempted
    assert not found.failed
    assert command("why", "3f0c", results=Path("results"), track=None) == "dse why 3f0c"
    assert set(STAYING) <= {*DEFAULTS, "data_dir"}


def _printed(text: str) -> list[list[str]]:
    """The commands in an output: to the end of the line or text, or to what explains them."""
    return [shlex.split(line.split("   ")[0]) for line in re.findall(r"\bdse (?:run|status|why|report)[^\n\"]*", text)]


def _runs(words: Sequence[str]) -> str:
    done = CliRunner().invoke(app, list(words[1:]))
    assert done.exit_code in (0, 1), (words, done.output, done.exception)
    return done.output


def test_everything_that_is_printed_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my data").mkdir()
    Path("my sweep.yaml").write_text(FILE, encoding="utf-8")

    def failing(trials: Any, *rest: Any) -> list[Record]:
        return [replace(record, status=FAILED, metric=None, error="E: no") for record in fake_pack(trials, *rest)]

    monkeypatch.setattr(loop, "run_pack", failing)
    out = _runs(["dse", "run", "my sweep.yaml", *GIVEN])
    said = _printed(out)
    assert [words[1] for words in said] == ["status", "run", "report"]
    again = said[1]
    assert again[-2:] == ["--retry", "failed"]
    assert {*GIVEN} <= {*again}, "every option that was given"
    assert "dse dashboard --results 'my results'" in out
    status, report = _runs(said[0]), _runs(said[2])
    (why,) = _printed(status)
    (rerun,) = [words for words in _printed(_runs(why)) if words[1] == "run"]
    assert ["--data-dir", str(tmp_path / "my data")] == rerun[rerun.index("--data-dir") :][:2]
    assert {"--results", "my results", "--executor", "local", "--device", "cpu"} <= {*rerun}
    page = Path(report.split(" trials in ")[1].strip())
    text = unescape(re.sub(r"</?(?:pre|code)>", "\n", page.read_text(encoding="utf-8")))
    shown = {tuple(words) for words in _printed(text) if words[1:2] != ["RECIPE"]}
    assert {words[1] for words in shown} == {"run", "report", "why"}
    for words in shown:
        assert "my results" in words, words
        _runs(words)
    monkeypatch.setattr(loop, "run_pack", fake_pack)
    assert "2 ok, 0 diverged, 0 failed" in _runs(again)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    rerun = _printed(_runs([*why[:-1], str(tmp_path / "my results")]))[0]
    assert rerun[2] == str(tmp_path / "my sweep.yaml"), "the file is named so that it is found from here"
