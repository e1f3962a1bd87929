"""What workers print comes to the driver: whole lines, bounded, whoever prints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dse.results.record import Record
from dse.run.executors.worker_log import FILE, TrialLogs, WorkerLog, append_lines


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


def test_the_log_of_a_trial_is_its_processs_lines_of_its_time(
    tmp_path: Path, make_record: Callable[..., Record]
) -> None:
    began = "2026-01-01T10:00:"
    lines = [f"{began}{second:02} {who}: {text}" for second, who, text in (
        (9, "here 7", "before"), (10, "here 7", "first"), (11, "here 77", "of another"), (12, "there 7", "elsewhere"),
        (14, "here 7", "last: of it"), (40, "here 7", "of the next pack"),
    )]  # fmt: skip
    lines = [line.replace(" ", "+00:00 ", 1) for line in lines]
    append_lines(tmp_path, [*lines[:3], "... 3 lines left out", *lines[3:]])
    record = make_record("u", started=f"{began}10+00:00", host="here", pack={"pid": 7, "pack_seconds": 4.5})
    assert TrialLogs(tmp_path).of(record) == [f"{began}10+00:00 first", f"{began}14+00:00 last: of it"]
    assert TrialLogs(tmp_path / "none").of(record) == []
    assert TrialLogs(tmp_path).of(make_record("u", started=f"{began}10+00:00", host="here")) == []  # from before
