"""The store: what was appended is read back, whatever happened to the process or the disk in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dse.errors import UserError
from dse.results import watch
from dse.results.record import DIVERGED, FAILED, OK, Record
from dse.results.shards import read_shard
from dse.results.store import Store

Make = Callable[..., Record]


def shards(store: Store) -> list[Path]:
    return sorted((store.folder / "shards").glob("*.jsonl"))


def test_reads_back_what_was_appended(tmp_path: Path, make_record: Make) -> None:
    store, records = Store(tmp_path / "results"), [make_record(f"u{i}", seed=i) for i in range(3)]
    for record in records:
        store.append(record)
    assert len(shards(store)) == 1
    assert store.records() == records
    assert store.records(["u1", "nowhere"]) == [records[1]]
    assert store.done() == {"u0": OK, "u1": OK, "u2": OK}


def test_a_folder_without_results_is_empty_and_stays_untouched(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    assert store.records() == []
    assert store.done() == {}
    assert not store.folder.exists()


def test_a_file_is_no_results_folder(tmp_path: Path) -> None:
    path = tmp_path / "results"
    path.write_text("", encoding="utf-8")
    for look in (Store(path).records, Store(path).done):
        with pytest.raises(UserError, match=r"results folder .*results is a file, not a folder"):
            look()


def test_large_fields_that_are_not_wanted(tmp_path: Path, make_record: Make) -> None:
    record = make_record(samples={"made": {"pixels": "x"}}, probes=[[0, '"curve":[', "wgrad", {"error": 0.5}]])
    store = Store(tmp_path)
    store.append(record)
    (shard,) = shards(store)
    earlier = json.loads(record.line())
    earlier = {k: v for k, v in earlier.items() if k != "probes"} | {"probes": earlier["probes"]}

    def check() -> None:
        assert store.records() == [record]
        assert store.records(without=("probes",)) == [replace(record, probes=[])]
        assert store.records(without=("samples",)) == [replace(record, samples={})]
        assert store.records(without=("curve", "probes")) == [replace(record, curve=[], probes=[])]
        assert store.records(brief=True) == [replace(record, curve=[], samples={}, probes=[])]

    check()
    store.close()
    shard.write_text(json.dumps(earlier, separators=(",", ":")) + "\n", encoding="utf-8")  # probes stood last, once
    check()
    assert store.compact() == 1
    check()


@pytest.mark.parametrize("cut", [1, 40])
def test_a_torn_last_line_is_skipped_and_counted(tmp_path: Path, make_record: Make, cut: int) -> None:
    store = Store(tmp_path)
    for i in range(3):
        store.append(make_record(f"u{i}"))
    store.close()
    (shard,) = shards(store)
    shard.write_bytes(shard.read_bytes()[:-cut])
    assert [r.uid for r in store.records()] == ["u0", "u1"]
    assert (store.damage.torn, store.damage.places) == (1, ())
    store.append(make_record("u2"))  # goes to a new file: nothing is ever added to a torn line
    assert sorted(store.done()) == ["u0", "u1", "u2"]
    assert len(shards(store)) == 2


def test_damaged_lines_are_named_and_their_file_is_put_aside(tmp_path: Path, make_record: Make) -> None:
    store = Store(tmp_path)
    store.append(make_record("u0"))
    store.close()
    (shard,) = shards(store)
    shard.write_bytes(b'\xff\xfe\n{"uid": 1}\n123\n' + shard.read_bytes())
    assert [r.uid for r in store.records()] == ["u0"]
    assert (store.damage.torn, store.damage.places) == (0, tuple(f"{shard} line {i}" for i in (1, 2, 3)))
    left_out = f"damaged, and left out: {shard} line 1, {shard} line 2, {shard} line 3: "
    assert str(store.damage) == left_out + "those trials count as not run, and `dse run` runs them"
    before = shard.read_bytes()
    assert store.compact() == 1
    assert [r.uid for r in store.records()] == ["u0"]
    assert str(store.damage) == ""
    (aside,) = (tmp_path / "damaged").iterdir()
    assert aside.read_bytes() == before


def test_a_success_beats_a_divergence_beats_a_failure_then_the_newest_wins(tmp_path: Path, make_record: Make) -> None:
    store = Store(tmp_path)
    day = "2026-01-0{}T00:00:00+00:00".format
    store.append(make_record("a", OK, started=day(1), seconds=1.0))
    store.append(make_record("a", OK, started=day(3), seconds=3.0))
    store.append(make_record("a", OK, started=day(2), seconds=2.0))
    store.append(make_record("a", FAILED, started=day(4)))
    store.append(make_record("b", FAILED, started=day(1)))
    store.append(make_record("b", DIVERGED, started=day(1)))
    expected = [("a", OK, 3.0), ("b", DIVERGED, 1.25)]
    assert [(r.uid, r.status, r.seconds) for r in store.records()] == expected
    assert store.done() == {"a": OK, "b": DIVERGED}
    store.compact()
    store.append(make_record("a", FAILED, started=day(5)))
    store.append(make_record("b", FAILED, started=day(5)))
    assert store.done() == {"a": OK, "b": DIVERGED}
    assert [(r.uid, r.status, r.seconds) for r in store.records()] == expected


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    store = Store(tmp_path / "file" / "results")
    with pytest.raises(UserError, match=r"^results folder .*/file/results is not writable: [^\n]+$"):
        store.append(make_record())
    with pytest.raises(UserError, match=r"is not writable"), store.lock():
        pass


def test_a_full_disk_leaves_the_shard_as_it_was(
    tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.append(make_record("u0"))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
        with pytest.raises(UserError, match="No space left"):
            store.append(make_record("u1"))
    store.append(make_record("u2"))
    assert sorted(store.done()) == ["u0", "u2"]
    assert str(store.damage) == ""


def test_a_second_one_is_told_who_writes_to_mlflow(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    with (
        first.lock(),
        first.lock(),  # the holder may take it again
        pytest.raises(UserError, match=rf"in use by process {os.getpid()} on \S+ \(since"),
        second.lock(),
    ):
        pass
    with second.lock():
        pass


def test_reading_and_appending_need_only_the_standard_library(tmp_path: Path, make_record: Make) -> None:
    """The GPU machine has torch and numpy, and nothing else."""
    line = make_record().line()
    code = f"""
import sys
for name in ("polars", "ray", "mlflow", "filelock", "rich", "pandas", "torch"):
    sys.modules[name] = None
from pathlib import Path
from dse.results.shards import read_shard
from dse.results.store import Store
from dse.results.record import Record
store = Store(Path({str(tmp_path)!r}))
with store.lock():
    store.append(Record.parse({line!r}))
print([r.uid for r in store.records()], store.done())
"""
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_env(), encoding="utf-8"
    )
    assert out.stdout.strip() == "['u0'] {'u0': 'ok'}"


def _env() -> dict[str, str]:
    import dse

    return os.environ | {"PYTHONPATH": str(Path(dse.__file__).parents[1])}


def test_new_records_begin_behind_the_last_whole_line(tmp_path: Path, make_record: Make) -> None:
    """Whatever the length of lines: shards are read from their end, block by block."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for length in (0, 10, watch._BLOCK - 1, watch._BLOCK, 3 * watch._BLOCK):
        for torn in (0, 5, 2 * watch._BLOCK):
            path = folder / f"{length}-{torn}.jsonl"
            path.write_bytes(b"x" * length + b"\n" + b"y" * torn)
            assert watch._length_of_whole_lines(path) == length + 1
            path.write_bytes(b"y" * torn)
            assert watch._length_of_whole_lines(path) == 0


def test_some_trials_are_read_without_the_others_large_fields(tmp_path: Path, make_record: Make) -> None:
    store, probes = Store(tmp_path), [[0, "layer", "wgrad", {"error": 0.5}]]
    records = [make_record(f"u{i}", seed=i, probes=probes) for i in range(3)]
    store.append(*records)
    assert store.records(["u1", "u2"]) == records[1:]
    assert store.records(["u1"], without=("probes",)) == [replace(records[1], probes=[])]
    (path,) = shards(store)
    shard = read_shard(path, uids={"u1"})
    assert shard is not None
    assert [bool(record.probes) for record in shard.records] == [False, True, False]
