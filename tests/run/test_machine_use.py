"""What a training takes of its machine, and the commit that it ran from, in its record."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dse import make_trial, run_trial
from dse.train.machine_use import commit


def test_a_record_says_what_it_took() -> None:
    trial = make_trial("regression", "mxfp4", training={"steps": 5, "batch": 16})
    facts = run_trial(trial).pack
    assert 0 < facts["cpu_seconds"] < 60
    assert 100 < facts["memory_mib"] < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    assert "gpu_memory_mib" not in facts
    assert facts["pid"] == os.getpid()
    assert 0 < facts["pack_seconds"] < 60
    assert facts.get("commit", "") == commit()


def test_the_commit_and_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit(tmp_path / "no checkout") == ""

    def git(*words: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", *author, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one", encoding="utf-8")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    head = git("rev-parse", "HEAD")[:12]
    assert commit.__wrapped__(tmp_path) == head
    (tmp_path / "untracked").touch()
    assert commit.__wrapped__(tmp_path) == head
    (tmp_path / "file").write_text("two", encoding="utf-8")
    assert commit.__wrapped__(tmp_path) == f"{head}+changes"
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert commit.__wrapped__(tmp_path) == ""
