"""Compaction: stopped at any step, no record is lost and none is counted twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pyarrow.parquet import ParquetFile

from dse.results import parquet
from dse.results.record import DIVERGED, FAILED, Record
from dse.results.store import Store

Make = Callable[..., Record]


def fill(store: Store, make: Make, uids: list[str]) -> None:
    for uid in uids:
        store.append(make(uid))
    store.close()


def files(store: Store) -> list[str]:
    return sorted(p.name for p in store.folder.rglob("*") if p.is_file() and p.name[0] != ".")


def test_records_are_equal_after_a_round_trip_through_parquet(tmp_path: Path, make_record: Make) -> None:
    store = Store(tmp_path)
    records = [
        make_record("u0"),
        make_record("u1", DIVERGED, seed=1, diverged_at=3, diverged_where="parameter w is not finite", metric=None),
        make_record("u2", FAILED, seed=2, error="Traceback\n  é\nboom", curve=[], evals=[[0, None]], metrics={}),
    ]
    for record in records:
        store.append(record)
    assert store.records() == records
    assert store.compact() == 1
    assert files(store) == ["trials.parquet"]
    assert store.records() == records
    assert store.records(["u1"]) == [records[1]]
    assert store.done() == {"u0": "ok", "u1": "diverged", "u2": "failed"}
    frame = store.frame()
    assert frame.columns == [f.name for f in fields(Record)]
    assert frame["metric"].to_list() == [r.metric for r in records]


def test_later_shards_are_merged_in(tmp_path: Path, make_record: Make) -> None:
    store = Store(tmp_path)
    assert store.compact() == 0
    for uids in (["u0", "u1"], ["u2"], ["u1", "u3"]):
        fill(store, make_record, uids)
        store.compact()
    assert [r.uid for r in store.records()] == ["u0", "u1", "u2", "u3"]
    assert files(store) == ["trials.parquet"]


def test_a_shard_that_is_still_written_to_stays(tmp_path: Path, make_record: Make) -> None:
    writer, compactor = Store(tmp_path), Store(tmp_path)
    writer.append(make_record("u0"))
    assert compactor.compact() == 0
    writer.append(make_record("u1"))
    assert sorted(compactor.done()) == ["u0", "u1"]
    writer.close()
    assert compactor.compact() == 1


def test_only_a_few_records_are_in_memory_at_a_time(
    tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever counts is copied, row group by row group, from shards and from a file of one group."""
    probes = [[step, "layer", "wgrad", {"error": step / 7}] for step in range(50)]
    store, sizes, to_frame = Store(tmp_path), list[int](), parquet.to_frame

    def counted(records: Iterable[Record]) -> pl.DataFrame:
        some = list(records)
        sizes.append(len(some))
        return to_frame(some)

    def add(first: int, last: int, started: str) -> None:
        store.append(*(make_record(f"u{i:02}", seed=i, probes=probes, started=started) for i in range(first, last)))
        store.close()

    add(0, 20, "2026-01-01T00:00:00+00:00")
    store.compact()
    assert groups(store) == 1
    line = len(store.records()[0].line())
    monkeypatch.setattr(parquet, "GROUP", 3 * line)
    monkeypatch.setattr(parquet, "to_frame", counted)
    add(10, 40, "2026-01-02T00:00:00+00:00")
    add(30, 40, "2026-01-01T00:00:00+00:00")  # an older attempt
    add(25, 35, "2026-01-03T00:00:00+00:00")
    expected = store.records()
    assert [record.started[8:10] for record in expected] == 10 * ["01"] + 15 * ["02"] + 10 * ["03"] + 5 * ["02"]
    assert store.compact() == 3
    assert max(sizes) <= 6
    assert groups(store) >= 5
    assert store.records() == expected
    assert store.records(["u07", "u33"]) == [expected[7], expected[33]]


def groups(store: Store) -> int:
    return int(ParquetFile(store.parquet).num_row_groups)


@pytest.mark.parametrize(
    ("module", "step"), [(parquet, "to_frame"), (os, "replace"), (parquet, "sync_folder"), (os, "unlink")]
)
def test_interrupted_at_any_step_nothing_is_lost(
    tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch, module: Any, step: str
) -> None:
    store = Store(tmp_path)
    fill(store, make_record, ["u0", "u1"])
    store.compact()
    fill(store, make_record, ["u1", "u2"])
    fill(store, make_record, ["u3"])
    expected = Store(tmp_path).records()
    assert [r.uid for r in expected] == ["u0", "u1", "u2", "u3"]

    def killed(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, killed)
        with pytest.raises(KeyboardInterrupt):
            store.compact()
    assert Store(tmp_path).records() == expected
    again = Store(tmp_path)
    again.compact()
    assert again.records() == expected
    assert files(again) == ["trials.parquet"]


def test_interrupted_between_two_deletions(tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    fill(store, make_record, ["u0"])
    fill(store, make_record, ["u1"])
    unlink, calls = os.unlink, []

    def second_fails(path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", second_fails)
        with pytest.raises(KeyboardInterrupt):
            store.compact()
    assert len(files(store)) == 2
    assert [r.uid for r in store.records()] == ["u0", "u1"]


def test_a_torn_line_does_not_stop_compaction(tmp_path: Path, make_record: Make) -> None:
    store = Store(tmp_path)
    fill(store, make_record, ["u0", "u1"])
    (shard,) = (tmp_path / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:-5])
    assert store.compact() == 1
    assert sorted(store.done()) == ["u0"]
