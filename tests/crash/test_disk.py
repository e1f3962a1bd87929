"""A full disk in the middle of a compaction: the results stay as they were, and the next one finishes the work."""

from __future__ import annotations

import multiprocessing
import random
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from dse.results.record import Record
from dse.results.store import Store
from dse.run.engine import _compact
from tests.crash.driver import made_up

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("compacted_before", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_a_full_disk_during_compaction_costs_nothing(tmp_path: Path, compacted_before: bool) -> None:
    chance, store = random.Random(1), Store(tmp_path)
    if compacted_before:
        fill(store, "a", chance)
        assert store.compact() == 1
    for name in "bc":
        fill(store, name, chance)
    expected, before = store.records(), content(tmp_path)
    process = multiprocessing.get_context("spawn").Process(
        target=with_little_room, args=(tmp_path, 30_000), daemon=True
    )
    process.start()
    process.join(60)
    assert process.exitcode == 0
    (note,) = (tmp_path / "note").read_text(encoding="utf-8").splitlines()
    assert note.startswith("the results could not be compacted, and stay as shards: ")
    assert "File too large" in note
    (tmp_path / "note").unlink()
    assert content(tmp_path) == before, "and no half-written file takes up room on the full disk"
    assert store.records() == expected
    assert store.compact() == 2
    assert store.records() == expected


def with_little_room(folder: Path, room: int) -> None:
    """What the engine does at a sweep's end, where no file may have more bytes than ``room``."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    (folder / "note").write_text("\n".join(_compact(Store(folder))), encoding="utf-8")


def fill(store: Store, name: str, chance: random.Random) -> None:
    """A finished shard of 20 records with curves of random numbers, 90 kB that cannot be compressed much."""
    store.append(*(with_curve(made_up(f"{name}{i}", chance), chance) for i in range(20)))
    store.close()


def with_curve(record: Record, chance: random.Random) -> Record:
    return replace(record, curve=[[step, chance.random()] for step in range(200)])


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}
