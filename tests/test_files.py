"""Files are replaced in one step, and in the order that survives a power failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dse.files import replacing, sync_file, sync_folder, unreadable, unwritable

Steps = list[tuple[str, str]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """What is asked of the operating system, in order: which file is made durable, and which name is given."""
    found: Steps = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        found.append(("sync", Path(f"/proc/self/fd/{fd}").readlink().name))
        fsync(fd)

    def replaced(draft: Path, path: Path) -> None:
        found.append(("rename", draft.name))
        replace(draft, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    return found


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="the names of open files are read from /proc"
)


@needs_proc
def test_the_content_is_durable_before_the_name_and_the_name_before_anything_else(tmp_path: Path, steps: Steps) -> None:
    with replacing(tmp_path / "file", tmp_path / "draft") as draft:
        draft.write_text("new", encoding="utf-8")
        assert not (tmp_path / "file").exists()
    assert steps == [("sync", "draft"), ("rename", "draft"), ("sync", tmp_path.name)]
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


@needs_proc
def test_a_file_that_may_be_lost_is_only_renamed(tmp_path: Path, steps: Steps) -> None:
    with replacing(tmp_path / "file", durable=False) as draft:
        draft.write_text("new", encoding="utf-8")
    assert steps == [("rename", f".file.{os.getpid()}")]


@pytest.mark.parametrize("where", ["writing", "sync", "rename"])
def test_whatever_fails_the_old_file_stays_and_no_draft_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    if where != "writing":
        monkeypatch.setattr(os, {"sync": "fsync", "rename": "replace"}[where], fail)

    def write() -> None:
        with replacing(path) as draft:
            draft.write_text("ne", encoding="utf-8")
            if where == "writing":
                fail()

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text(encoding="utf-8") == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "no" / "file") as draft:
        draft.write_text("", encoding="utf-8")
    for sync in (sync_file, sync_folder):
        with pytest.raises(FileNotFoundError):
            sync(tmp_path / "no")


def test_errors_are_one_line() -> None:
    full = OSError(28, "No space left on device")
    assert str(unwritable(Path("r"), full)) == "results folder r is not writable: No space left on device"
    assert str(unreadable(Path("r/f"), OSError("odd"))) == "r/f cannot be read: odd"
