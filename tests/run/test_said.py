"""What workers print comes to the driver: whole lines, bounded, whoever prints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dse.run.executors.worker_log import FILE, WorkerLog, write_down


def test_whole_lines_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = WorkerLog()
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    said.listen()
    print("one", "line")
    print("begun", end="")
    assert [line.partition(": ")[2] for line in said.take()] == ["one line"]
    print(" and ended\n\n", file=sys.stdout)
    print("too hot", file=sys.stderr)
    assert [line.partition(": ")[2] for line in said.take()] == ["begun and ended", "too hot"]
    assert said.take() == []
    for number in range(700):
        print(number)
    lines = said.take()
    assert lines[0] == "... 200 lines left out"
    assert lines[-1].endswith(": 699")
    assert "one line" in capsys.readouterr().out
    write_down(tmp_path, ["a"])
    write_down(tmp_path, ["b"])
    assert (tmp_path / FILE).read_text() == "a\nb\n"
    (tmp_path / "file").write_text("")
    write_down(tmp_path / "file", ["lost"])
    write_down(None, ["lost"])
