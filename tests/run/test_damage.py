"""Damaged results: a flipped bit is never a result, every reader agrees on what is one, and a line says what to do."""

from __future__ import annotations

import random
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dse.commands.follow_up import say_manifests
from dse.errors import UserError
from dse.results import parquet
from dse.results.record import Record
from dse.results.shards import read_shard, shard_paths
from dse.results.store import Store
from dse.results.watch import ResultWatcher
from dse.run.tracking import mlflow_runs
from dse.train import checkpoint
from dse.train.checkpoint import Checkpoints

Make = Callable[..., Record]


def records(make: Make, count: int) -> list[Record]:
    """With something in each of the large fields."""
    chance = random.Random(0)
    return [
        make(
            f"u{i}",
            seed=i,
            curve=[[step, chance.random()] for step in range(10)],
            samples={"made": {"shape": [2, 2], "pixels": "AAECAw=="}},
            probes=[[0, "layer", "wgrad", {"error": chance.random()}]],
            trial={"lr": chance.random()},
        )
        for i in range(count)
    ]


def flipped(data: bytes, chance: random.Random, bits: int = 1) -> bytes:
    some = bytearray(data)
    for _ in range(bits):
        at = chance.randrange(len(some))
        some[at] ^= 1 << chance.randrange(8)
    return bytes(some)


def check(store: Store, original: dict[str, Record], most: int, what: str) -> int:
    """No record is another one, at most so many are missing, and all readers agree; the number that is missing."""
    found = {record.uid: record for record in store.records()}
    assert all(original[uid] == record for uid, record in found.items()), what
    assert str(store.damage) or found.keys() == original.keys(), what
    assert len(original) - len(found) <= most, what
    assert {record.uid for record in store.records(brief=True)} == found.keys(), what
    assert {record.uid for record in store.records(original, without=("probes",))} == found.keys(), what
    assert store.done().keys() == found.keys(), what
    return len(original) - len(found)


@pytest.mark.parametrize("bits", [1, 3])
def test_flipped_bits_in_a_shard(tmp_path: Path, make_record: Make, bits: int) -> None:
    seed = random.randrange(2**32)
    chance, store, original = random.Random(seed), Store(tmp_path), {r.uid: r for r in records(make_record, 4)}
    store.append(*original.values())
    store.close()
    (shard,) = shard_paths(store.shards)
    whole, missing = shard.read_bytes(), 0
    for i in range(150):
        watcher = ResultWatcher(store.shards / "nowhere", store.parquet)
        watcher._shards = store.shards  # all of it is new
        shard.write_bytes(flipped(whole, chance, bits))
        missing += check(store, original, 2 * bits, f"seed {seed}, flip {i}")
        assert {record.uid for record in watcher.read_new(None)} == store.done().keys()
    print(f"seed {seed}: {missing} of {150 * len(original)} records missing, none changed")
    assert missing >= 140


@pytest.mark.parametrize("bits", [1, 3])
def test_flipped_bits_in_the_table(
    tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    """Anywhere: pages, their headers, or the footer. What is in other row groups stays a result."""
    seed = random.randrange(2**32)
    monkeypatch.setattr(parquet, "GROUP", 1)
    chance, store, original = random.Random(seed), Store(tmp_path), {r.uid: r for r in records(make_record, 3)}
    for record in original.values():
        store.append(record)
        store.close()
        store.compact()
    whole, missing = store.parquet.read_bytes(), 0
    for i in range(60):
        store.parquet.write_bytes(flipped(whole, chance, bits))
        missing += check(store, original, bits, f"seed {seed}, flip {i}")
    print(f"seed {seed}: {missing} of {60 * len(original)} records missing, none changed")
    assert missing > 0


def test_a_damaged_table_is_put_aside_and_its_rest_goes_on(
    tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP", 1)
    store, original = Store(tmp_path), records(make_record, 3)
    for record in original:
        store.append(record)
        store.close()
        store.compact()
    damaged = bytearray(store.parquet.read_bytes())
    damaged[len(damaged) // 4] ^= 1
    store.parquet.write_bytes(damaged)
    kept = store.records()
    assert len(kept) == 2
    assert f"left out: {store.parquet} row group " in str(store.damage)
    again = next(record for record in original if record not in kept)
    store.append(again)
    store.close()
    assert store.compact() == 1
    assert store.records() == original
    assert str(store.damage) == ""
    (aside,) = (tmp_path / "damaged").iterdir()
    assert aside.read_bytes() == damaged


def test_a_table_of_an_earlier_version(tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no checksums; a page that cannot be decoded costs its row group, for every reader, and no traceback."""
    monkeypatch.setattr(parquet, "GROUP", 1)
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "reserve", lambda *_: None)
        patch.setattr(parquet, "stamp", lambda _: None)
        patch.setattr(parquet, "keep_footer", lambda _: None)
        store, original = Store(tmp_path), {r.uid: r for r in records(make_record, 2)}
        for record in original.values():
            store.append(record)
            store.close()
            store.compact()
    assert check(store, original, 0, "whole") == 0
    whole, seed = store.parquet.read_bytes(), random.randrange(2**32)
    chance, data = random.Random(seed), len(whole) - 8 - struct.unpack("<I", whole[-8:-4])[0]
    missing = 0
    for i in range(40):
        store.parquet.write_bytes(flipped(whole[:data], chance, 2) + whole[data:])
        found = {record.uid for record in store.records()}
        assert store.done().keys() == found, f"seed {seed}, flip {i}"
        assert {record.uid for record in store.records(brief=True)} == found
        missing += len(original) - len(found)
    print(f"seed {seed}: {missing} of {40 * len(original)} missing")
    assert missing > 0


def test_a_table_of_which_nothing_is_left(tmp_path: Path, make_record: Make) -> None:
    store = Store(tmp_path)
    store.parquet.write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(UserError, match=r"^\S+trials.parquet cannot be read: [^\n]+; move it away and run the sweep"):
        store.records()


def test_lines_of_an_earlier_version_and_their_readers(tmp_path: Path, make_record: Make) -> None:
    """Without a checksum a line counts, if all of it can be read; behind one with a checksum it is damaged."""
    store, (first, second) = Store(tmp_path), records(make_record, 2)
    store.shards.mkdir()
    (store.shards / "old.jsonl").write_text(f"{first.line()}\n{second.line()}\n", encoding="utf-8")
    assert store.records() == [first, second]
    (store.shards / "old.jsonl").write_text(
        f"{first.line()}\n{second.line().replace('[0,', '[0;', 1)}\n", encoding="utf-8"
    )
    assert store.done().keys() == {"u0"}
    assert store.records(brief=True) == [replace(first, curve=[], samples={}, probes=[])]
    (store.shards / "old.jsonl").unlink()
    store.append(first)
    (shard,) = shard_paths(store.shards)
    with shard.open("a", encoding="utf-8") as file:
        file.write(f"{second.line()}\n")
    found = read_shard(shard)
    assert found is not None
    assert (found.records, found.bad) == ([first], (2,))
    assert Record.parse(shard.read_text(encoding="utf-8").splitlines()[0]) == first, (
        "readers that know no checksums read it"
    )


def test_flipped_bits_in_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the same, or none: the training goes on from the one before, or starts anew."""
    seed = random.randrange(2**32)
    chance, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    content: dict[str, Any] = {
        "setting": {"device": "cpu"},
        "course": {"tensors": {"flat": torch.randn(2, 20, generator=generator)}, "step": 7},
    }
    checkpoints = Checkpoints(tmp_path)
    checkpoints.write(["a"], 7, content)
    (path,) = tmp_path.glob("checkpoints/*/step-7.pt")
    whole, gone = path.read_bytes(), 0
    for i in range(300):
        path.write_bytes(flipped(whole, chance))
        (part,) = checkpoints.parts(["a"])
        found = checkpoint.read(part.paths[0], {"device": "cpu"}) if part.paths else None
        gone += found is None
        if found is not None:
            assert found["course"]["step"] == 7, f"seed {seed}, flip {i}"
            assert torch.equal(found["course"]["tensors"]["flat"], content["course"]["tensors"]["flat"])
    print(f"seed {seed}: {gone} of 300 cannot be read")
    assert gone > 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == gone, "a line each"
    assert f"{path} is damaged, and removed: its trials go on from the checkpoint before, or start anew" in said


def test_a_damaged_manifest_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweeps").mkdir()
    say_manifests(tmp_path)
    assert capsys.readouterr().err == ""
    (tmp_path / "sweeps" / "a.json").write_text('{"name": "a"', encoding="utf-8")
    say_manifests(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"note: damaged, and left out: {tmp_path}/sweeps/a.json; `dse run` of the sweep writes it anew"


def test_a_damaged_mlflow_database_is_told(tmp_path: Path) -> None:
    assert not mlflow_runs.is_damaged(tmp_path)
    with closing(sqlite3.connect(tmp_path / mlflow_runs.DATABASE)) as connection:
        connection.execute("CREATE TABLE runs (name TEXT)")
        connection.executemany("INSERT INTO runs VALUES (?)", [("x" * 500,)] * 100)
        connection.commit()
    assert not mlflow_runs.is_damaged(tmp_path)
    content = (tmp_path / mlflow_runs.DATABASE).read_bytes()
    for damaged in (b"", b"no database" + content[11:], content[:4096] + bytes(4096) + content[8192:], content[:-5000]):
        (tmp_path / mlflow_runs.DATABASE).write_bytes(damaged)
        assert mlflow_runs.is_damaged(tmp_path) == bool(damaged), "an empty one is new"
