"""What workers print comes to the driver: whole lines, bounded, whoever prints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dse.run.executors.worker_log import FILE, WorkerLog, append_lines


def test_whole_lines_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = WorkerLog()
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    log.install()
    print("one", "line")
    print("begun", end="")
    assert [line.partition(": ")[2] for line in log.drain()] == ["one line"]
    print(" and ended\n\n", file=sys.stdout)
    print("too hot", file=sys.stderr)
    assert [line.partition(": ")[2] for line in log.drain()] == ["begun and ended", "too hot"]
    assert log.drain() == []
    for number in range(700):
        print(number)
    lines = log.drain()
    assert lines[0] == "... 200 lines left out"
    assert lines[-1].endswith(": 699")
    assert "one line" in capsys.readouterr().out
    append_lines(tmp_path, ["a"])
    append_lines(tmp_path, ["b"])
    assert (tmp_path / FILE).read_text(encoding="utf-8") == "a\nb\n"
    (tmp_path / "file").write_text("", encoding="utf-8")
    append_lines(tmp_path / "file", ["lost"])
    append_lines(None, ["lost"])
