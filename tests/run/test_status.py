"""A status is one of four plain strings, in the program and in every file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from dse.results import parquet
from dse.results.outcome import OUTCOMES, outcome
from dse.results.record import DIVERGED, FAILED, OK, STOPPED, Record, Status, field_kinds
from dse.results.store import Store

Make = Callable[..., Record]
STATUSES: tuple[Status, ...] = get_args(Status)


def test_the_constants_are_the_whole_type() -> None:
    assert STATUSES == (OK, DIVERGED, FAILED, STOPPED)
    assert all(type(status) is str for status in STATUSES)
    assert field_kinds()["status"] == "str"


@pytest.mark.parametrize("status", STATUSES)
def test_files_hold_plain_strings(tmp_path: Path, make_record: Make, status: Status) -> None:
    record = make_record("u0", status=status, error="RuntimeError: x" if status == FAILED else None)
    assert f'"status":{json.dumps(status)},' in record.line()
    store = Store(tmp_path)
    store.append(record)
    assert store.done() == {"u0": status}
    store.close()
    assert store.compact() == 1
    frame = parquet.read(store.parquet)
    assert frame is not None
    assert frame["status"].to_list() == [status]
    (found,) = Store(tmp_path).records()
    assert found == record
    assert type(found.status) is str
    assert outcome(found) in OUTCOMES


def test_a_status_of_a_later_version_is_read(make_record: Make) -> None:
    line = make_record("u0").line().replace('"status":"ok"', '"status":"paused"')
    assert Record.parse(line).line() == line
    with pytest.raises(ValueError, match="status is no str"):
        Record.parse(line.replace('"paused"', "1"))
