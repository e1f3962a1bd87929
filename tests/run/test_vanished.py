"""The results folder vanishes or is changed while a sweep runs: what is computed is stored, or said to be lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dse.errors import UserError
from dse.results import shard_writer
from dse.results.claims import Claims, running_drivers
from dse.results.lock import folder_lock
from dse.results.manifest import read_manifests
from dse.results.record import Record
from dse.results.shards import shard_paths
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.sweep import Sweep
from dse.train import loop, width
from dse.train.options import RunOptions
from dse.trial import Trial

Make = Callable[..., Record]


def delete(folder: Path) -> None:
    shutil.rmtree(folder)


def move(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def delete_shard(folder: Path) -> None:
    for path in shard_paths(folder / "shards"):
        path.unlink()


def truncate(folder: Path) -> None:
    for path in shard_paths(folder / "shards"):
        os.truncate(path, path.stat().st_size - 1)


def interfere(monkeypatch: pytest.MonkeyPatch, at: int, what: Callable[[], None]) -> None:
    """Packs of two; something happens before the training of the one of this number."""
    real, count = loop.run_pack, 0

    def run_pack(trials: Sequence[Trial], *args: Any) -> list[Record]:
        nonlocal count
        count += 1
        if count == at:
            what()
        return real(trials, *args)

    monkeypatch.setattr(loop, "run_pack", run_pack)
    monkeypatch.setattr(width, "measured_width", lambda trials, *_a: 2)


@pytest.mark.parametrize("at", [2, 3])
@pytest.mark.parametrize("what", [delete, move, delete_shard])
def test_a_folder_that_vanishes_is_made_again(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: Callable[[Path], None], at: int
) -> None:
    store = Store(tmp_path / "results")
    interfere(monkeypatch, at, lambda: what(store.folder))
    summary = run_sweep(sweep, store, RunOptions("local", track=False, progress=False))
    assert (summary.ran, summary.ok, summary.left, summary.exit_code) == (6, 6, 0, 0)
    made = f"{store.folder} was deleted or moved while the sweep ran; it was made again"
    assert f"{made} with the {2 * (at - 1)} results of this run" in summary.notes
    assert [manifest.name for manifest in read_manifests(store.folder)] == ["tiny"]
    again = run_sweep(sweep, Store(store.folder), RunOptions("local", track=False, progress=False))
    assert (again.before, again.ran) == (6, 0)


def test_deleted_after_the_last_result(sweep: Sweep, tmp_path: Path, make_record: Make) -> None:
    store = Store(tmp_path / "results")
    store.append(make_record("u0"), make_record("u1"))
    shutil.rmtree(store.folder)
    store.close()
    assert store.done().keys() == {"u0", "u1"}
    assert len(store.notes) == 1


def test_a_shard_that_is_cut_costs_what_was_in_it(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "results")
    interfere(monkeypatch, 2, lambda: truncate(store.folder))
    summary = run_sweep(sweep, store, RunOptions("local", track=False, progress=False))
    assert (summary.ran, summary.ok, summary.left, summary.exit_code) == (6, 5, 1, 1)
    assert "1 results of this run are lost, and run again with the same command" in summary.notes[0]
    monkeypatch.undo()
    again = run_sweep(sweep, store, RunOptions("local", track=False, progress=False))
    assert (again.before, again.ran, again.left) == (5, 1, 0)


def test_a_folder_that_cannot_be_made_again(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that was computed is beside it, and the message says how to go on."""
    store = Store(tmp_path / "results")

    def in_the_way() -> None:
        shutil.rmtree(store.folder)
        store.folder.write_text("", encoding="utf-8")

    interfere(monkeypatch, 2, in_the_way)
    with pytest.raises(UserError) as error:
        run_sweep(sweep, store, RunOptions("local", track=False, progress=False))
    (rescued,) = shard_paths(tmp_path / "results-rescued")
    text = str(error.value)
    assert text.startswith(f"results folder {store.folder} is not writable: ")
    assert f"the 4 results at hand are in {rescued}: copy {rescued} into {store.shards}, and run the same" in text
    store.folder.unlink()
    store.shards.mkdir(parents=True)
    shutil.copy(rescued, store.shards)
    monkeypatch.undo()
    again = run_sweep(sweep, Store(store.folder), RunOptions("local", track=False, progress=False))
    assert (again.before, again.ran, again.left) == (4, 2, 0)


def test_nowhere_to_write(tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "results")
    store.append(make_record("u0"))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_writer.os, "write", full)
    with pytest.raises(UserError, match="No space left on device; 1 results are lost, and run again with the same"):
        store.append(make_record("u1"))
    monkeypatch.undo()
    assert store.done().keys() == {"u0"}
    assert [path.name for path in tmp_path.iterdir()] == ["results"], "nothing is left of the attempts"


def test_claims_that_are_deleted_are_made_again(tmp_path: Path) -> None:
    mine, theirs = Claims(tmp_path), Claims(tmp_path)
    with mine.lock():
        mine.claim(["a", "b", "c"])
        mine.release(["c"])
    for damage in (lambda path: shutil.rmtree(path.parent), os.unlink, lambda path: os.truncate(path, 0)):
        damage(mine._path)
        mine.restore()
        with theirs.lock():
            assert theirs.claimed_by_others().keys() == {"a", "b"}
    assert mine.restored
    assert sorted(len(uids) for _, uids in running_drivers(tmp_path)) == [0, 2]
    mine.close()
    theirs.close()
    assert list((tmp_path / "claims").glob("*.claims")) == []


def test_damaged_claims_are_no_traceback(tmp_path: Path) -> None:
    mine, theirs = Claims(tmp_path), Claims(tmp_path)
    with mine.lock():
        mine.claim(["a"])
    with theirs.lock():
        assert theirs.claimed_by_others().keys() == {"a"}
    (path,) = (path for path in (tmp_path / "claims").glob("*.claims") if path == mine._path)
    path.write_bytes(b"+\xff\xfe\n+b\n")
    with theirs.lock():
        assert "b" in theirs.claimed_by_others()
    assert running_drivers(tmp_path)
    mine.close()
    theirs.close()


def test_a_lock_whose_file_was_deleted_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking somebody deletes it; whoever comes later must find it locked."""
    from dse.results import lock

    real, deleted = lock.try_lock, list[Path]()

    def try_lock(fd: int, wait: bool = False) -> bool:
        if not deleted:
            (tmp_path / ".lock").unlink()
            deleted.append(tmp_path)
        return real(fd, wait)

    monkeypatch.setattr(lock, "try_lock", try_lock)
    with folder_lock(tmp_path), pytest.raises(lock.InUse), folder_lock(tmp_path):
        pass


def test_the_later_attempt_counts_whatever_the_clock_says(sweep: Sweep, tmp_path: Path, make_record: Make) -> None:
    store = Store(tmp_path / "results")
    assert run_sweep(sweep, store, RunOptions("local", track=False, progress=False)).ran == 6
    assert {record.attempt for record in store.records()} == {0}
    late = [record.__class__(**(vars(record) | {"started": "2999-01-01T00:00:00+00:00"})) for record in store.records()]
    shutil.rmtree(store.folder)
    store = Store(tmp_path / "results")
    store.append(*late)
    store.close()
    for count in (1, 2):
        assert run_sweep(sweep, store, RunOptions("local", retry="all", track=False, progress=False)).ran == 6
        assert {(record.attempt, record.started < "2999") for record in store.records()} == {(count, True)}
